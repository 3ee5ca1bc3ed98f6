//! Paging: `limit`, `cursor` and the `Link` that leads on.

use bz_core::api::error::Code;
use serde_json::{Value, json};

use crate::world::{As, Client, World};

/// A list is whole unless it is asked for by pages; the pages together are the list, whatever comes and goes meanwhile.
#[tokio::test]
async fn pages_are_the_list() {
    let world = World::new().await;
    let admin = world.admin().await;
    for name in ["b", "d", "f", "h", "j"] {
        make(&world, &admin, name).await;
    }
    assert_eq!(names(&world, &admin, "/environments").await, (all(&["Default", "b", "d", "f", "h", "j"]), None));

    let (first, next) = names(&world, &admin, "/environments?limit=2").await;
    assert_eq!(first, all(&["Default", "b"]));
    // What the cursor stands at goes, something comes before it and something after it.
    let environments: Vec<Value> = world.get(As::Client(&admin), "/environments").await.ok();
    let b = environments.iter().find(|e| e["name"] == "b").unwrap()["id"].as_str().unwrap();
    world.raw(As::Client(&admin), "DELETE", &format!("/environments/{b}"), vec![]).await.done();
    make(&world, &admin, "a").await;
    make(&world, &admin, "e").await;
    let (second, next) = names(&world, &admin, &next.expect("there is more")).await;
    assert_eq!(second, all(&["d", "e"]));
    let (third, next) = names(&world, &admin, &next.expect("there is more")).await;
    assert_eq!(third, all(&["f", "h"]));
    let (last, next) = names(&world, &admin, &next.expect("there is more")).await;
    assert_eq!((last, next), (all(&["j"]), None));
}

/// The link repeats the filters, and what is newest comes first.
#[tokio::test]
async fn filters_and_order_are_kept() {
    let world = World::new().await;
    let admin = world.admin().await;
    let web = world.agent(&admin, "web").await;
    world.allow(&admin, &admin, &web, &["root"]).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        world.advance(1);
        made.push(json!(world.connect(&admin, &web).await.connection_id));
    }
    let mut path = Some("/connections?connectionState=Pending&limit=1&all=true".to_owned());
    let mut seen = Vec::new();
    while let Some(at) = path {
        let reply = world.get(As::Client(&admin), &at).await;
        let page: Vec<Value> = reply.ok();
        assert_eq!(page.len(), 1);
        seen.push(page[0]["id"].clone());
        path = next(&reply);
        assert!(path.as_ref().is_none_or(|path| path.contains("connectionState=Pending")), "{path:?} lost the filter");
    }
    made.reverse();
    assert_eq!(seen, made);
}

/// What is no page is refused, not read as the beginning.
#[tokio::test]
async fn odd_pages_are_refused() {
    let world = World::new().await;
    let admin = world.admin().await;
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=-1", "cursor=%21", "cursor=__79"] {
        let path = format!("/environments?{bad}");
        world.get(As::Client(&admin), &path).await.refused(Code::BadRequest);
    }
    assert_eq!(names(&world, &admin, "/environments?limit=1000").await, (all(&["Default"]), None));
}

async fn make(world: &World, admin: &Client, name: &str) {
    world.call(As::Client(admin), "POST", "/environments", &json!({"name": name})).await.done();
}

/// The names on a page, and where the next one is.
async fn names(world: &World, who: &Client, path: &str) -> (Vec<String>, Option<String>) {
    let reply = world.get(As::Client(who), path).await;
    let page: Vec<Value> = reply.ok();
    (page.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect(), next(&reply))
}

fn next(reply: &crate::world::Reply) -> Option<String> {
    let link = reply.headers.get("link")?.to_str().unwrap();
    let path = link.strip_prefix("</api/v2").and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(path.unwrap_or_else(|| panic!("{link} is no link to the next page")).to_owned())
}

fn all(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
