//! `docs/connecting.md`, section "Databases", with the real programs and a real PostgreSQL.

use super::desk::Desk;
use super::page::Page;
use super::{PERSON, Place};
use crate::databases::servers::{Authority, Database, Flaw, Kind, PASSWORD};

/// F-020, F-021, F-022, F-215, F-232~: the section as written: a database by its name, the client that people have, the log
/// of statements, and TLS to the database with an authority of one's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_section_on_databases_is_as_written() {
    let authority = Authority::new();
    let Some(mut server) = Database::start(Kind::Postgres, Some((&authority, Flaw::None))) else { return };
    let Some(mut place) = Place::start().await else { return };
    place.desk.begin_with(&format!("export PATH={}:$PATH PGPASSWORD={PASSWORD}", super::programs().display()));
    let mut page = Page::connecting("Databases");
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    page.put("localhost:5432", &format!("localhost:{}", server.port));
    page.put("-d shop", &"-d postgres -X -A -t");
    let desk = &place.desk;
    desk.run(&page.next("bz target create database orders")).await;
    desk.run(&page.next("bz policy create proxy")).await;

    let mut window = desk.terminal(&page.next("bz connect orders"));
    let said = window.shows("psql -h 127.0.0.1 -p ").await;
    assert!(said.contains(&format!("leads to orders (localhost:{}) through ", server.port)), "{said}");
    let port = said.split(" leads to ").next().unwrap().rsplit(':').next().unwrap().to_owned();
    page.put("PORT", &port);
    assert_eq!(desk.run(&page.next("psql")).await, "42\n");
    window.types("\x03").await;
    assert_eq!(window.ends().await, Some(0));
    assert_eq!(desk.run(&page.next("bz connect orders --exec")).await, "42\n");
    let two = |said: &str| said.matches("select 6 * 7").count() == 2;
    let log = desk.run_until(&page.next("bz logs queries"), two).await;
    assert!(log.contains("alice") && log.contains("done") && !log.contains(" no\n"), "{log}");

    std::fs::write(desk.at("db-ca.pem"), authority.pem()).unwrap();
    place.agent.kill().await;
    let mut agent = desk.start(&page.next("bz-agent run"));
    agent.says("linked to the server").await;
    desk.run(&page.next("bz target create database books")).await;
    desk.run(&page.next("bz policy create proxy")).await;
    let tls = page.next("bz connect books --exec");
    assert_eq!(desk.run(&tls).await, "t\n");
    exit_statuses(desk, &tls, (&mut server, &authority)).await;
    desk.run(&page.next("bz target create database cache")).await;
    page.ends();
}

/// What is wrong with the database is the status of `bz`.
async fn exit_statuses(desk: &Desk, line: &str, (server, authority): (&mut Database, &Authority)) {
    let stranger = Authority::new();
    for (certificate, status) in [
        (None, 12),
        (Some((&stranger, Flaw::None)), 15),
        (Some((authority, Flaw::Expired)), 16),
        (Some((authority, Flaw::OtherName)), 17),
    ] {
        server.restart_with(certificate);
        let output = desk.try_run(line).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    server.end();
    let output = desk.try_run(line).await;
    assert_eq!(output.status.code(), Some(10), "{output:?}");
}
