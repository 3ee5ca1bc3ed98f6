//! Who a request to a cluster is.

use super::*;
use crate::backend::http::tests::{ask, scripted};

fn impersonation(user: &str, groups: &[&str]) -> Impersonation {
    let cluster = Cluster::new("10.0.0.1:6443".parse().unwrap(), "/nowhere", "/nowhere");
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Impersonation::new(cluster, &KubeRequest { user: user.to_owned(), groups }).unwrap()
}

/// What is left of a client's headers, and what the agent adds.
fn check(given: &[(&str, &str)], left: &[&str]) {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    impersonation("alice", &["dev", "ops"]).impersonate(&mut headers, "own").unwrap();
    let shown = |name: &str, value: &HeaderValue| format!("{name}: {}", value.to_str().unwrap());
    let mut got: Vec<String> = headers.iter().map(|(name, value)| shown(name.as_str(), value)).collect();
    got.sort();
    let own =
        ["authorization: Bearer own", "impersonate-group: dev", "impersonate-group: ops", "impersonate-user: alice"];
    let mut want: Vec<String> = own.iter().chain(left).map(|line| (*line).to_owned()).collect();
    want.sort();
    assert_eq!(got, want, "{given:?}");
}

/// PR-KUBE-1: nobody is who they say: only whom the admitted request names.
#[test]
fn a_request_is_the_admitted_user_s_alone() {
    check(&[], &[]);
    check(&[("Impersonate-User", "system:admin"), ("IMPERSONATE-GROUP", "system:masters")], &[]);
    check(&[("impersonate-uid", "1"), ("Impersonate-Extra-Scopes", "x"), ("iMpErSoNaTe_UsEr", "root")], &[]);
    check(&[("Authorization", "Bearer stolen"), ("authorization", "Basic eDp5")], &[]);
    check(&[("X-Remote-User", "admin"), ("x-remote-group", "system:masters"), ("X_Remote_Extra_a", "b")], &[]);
    check(&[("Cookie", "session=1"), ("X-Forwarded-For", "1.1.1.1"), ("Bz-Command", "get pods")], &[]);
    check(
        &[("Accept", "application/json"), ("User-Agent", "kubectl")],
        &["accept: application/json", "user-agent: kubectl"],
    );
}

#[test]
fn a_token_does_not_hide_in_a_websocket() {
    let token = format!("{TOKEN_PROTOCOL}c3RvbGVu");
    let protocol = "Sec-WebSocket-Protocol";
    check(
        &[(protocol, "v5.channel.k8s.io, v4.channel.k8s.io")],
        &["sec-websocket-protocol: v5.channel.k8s.io, v4.channel.k8s.io"],
    );
    check(&[(protocol, &token), (protocol, "v4.channel.k8s.io")], &["sec-websocket-protocol: v4.channel.k8s.io"]);
    check(
        &[(protocol, &format!("v4.channel.k8s.io,{}", token.to_uppercase()))],
        &["sec-websocket-protocol: v4.channel.k8s.io"],
    );
    check(&[(protocol, &token)], &[]);
}

/// Without a user nothing is sent: not even as the agent.
#[test]
fn a_request_without_a_user_is_none() {
    let cluster = || Cluster::new("10.0.0.1:6443".parse().unwrap(), "/nowhere", "/nowhere");
    let new = |user: &str, group: &str| {
        Impersonation::new(cluster(), &KubeRequest { user: user.to_owned(), groups: vec![group.to_owned()] })
    };
    assert!(new("alice", "dev").is_ok());
    for (user, group) in [("", "dev"), ("alice", ""), ("a\nImpersonate-Group: x", "dev"), ("alice", "a\r\nb: c")] {
        assert!(new(user, group).is_err(), "{user:?} {group:?}");
    }
    let refused = impersonation("alice", &[]).request(&mut HeaderMap::new());
    assert_eq!(refused, Err(Unusable::Agent("the agent has no token of the cluster")));
}

/// The token that counts is the one that the file holds now.
#[test]
fn a_token_that_is_replaced_counts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let cluster = Cluster::new("10.0.0.1:6443".parse().unwrap(), "/nowhere", &path);
    let manner = Impersonation::new(cluster, &KubeRequest { user: "alice".to_owned(), groups: vec![] }).unwrap();
    for token in ["one", "two"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let mut headers = HeaderMap::new();
        manner.request(&mut headers).unwrap();
        assert_eq!(headers.get(AUTHORIZATION).unwrap().to_str().unwrap(), format!("Bearer {token}"));
    }
    for bad in ["", " \n", "two words"] {
        std::fs::write(&path, bad).unwrap();
        assert!(manner.request(&mut HeaderMap::new()).is_err(), "{bad:?}");
    }
}

/// PR-KUBE-1: nobody has what the agent says taken away again, as belonging to one connection.
#[tokio::test]
async fn what_the_agent_says_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "own").unwrap();
    let cluster = Cluster::new("10.0.0.1:6443".parse().unwrap(), "/nowhere", &path);
    let role = KubeRequest { user: "alice".to_owned(), groups: vec!["dev".to_owned()] };
    let (dial, heard) = scripted("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", false);
    let gateway = Arc::new(Gateway::new(Impersonation::new(cluster, &role).unwrap(), &Upstream::plain(dial)));
    let named = "impersonate-user, impersonate-group, authorization, host";
    let request = format!(
        "GET /api HTTP/1.1\r\nhost: localhost:1\r\nconnection: {named}\r\nproxy-connection: {named}\r\n\
         impersonate-user: system:admin\r\n\r\n"
    );
    let got = ask(&gateway, &request, |got| got.ends_with("hi")).await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    let heard = heard.lock().unwrap().clone();
    let mut lines: Vec<&str> = heard.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let want = [
        "GET /api HTTP/1.1",
        "authorization: Bearer own",
        "host: 10.0.0.1:6443",
        "impersonate-group: dev",
        "impersonate-user: alice",
    ];
    assert_eq!(lines, want);
}
