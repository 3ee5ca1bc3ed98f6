//! What is fuzzed of the server: every lens, bodies of policies, and its configuration.

use bz_core::access::Lens;
use bz_core::access::request::{CopyRequest, CopyWay};
use bz_core::access::upstream::Wire;
use bz_core::api::policy::{KubernetesPolicy, ProxyPolicy, RecordingPolicy, TargetConnectPolicy};
use bz_core::time::UnixTime;
use bz_protocol::keys::Direction;
use bz_server::Config;
use bz_server::observe::query::QueryLens;
use bz_server::observe::{FilesLens, HttpLens, Observer, SshLens};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A target's name, as its corpus and its program are called.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("lens_command", lens_command),
    ("lens_files", lens_files),
    ("lens_postgres", lens_postgres),
    ("lens_mysql", lens_mysql),
    ("lens_http", lens_http),
    ("lens_ssh", lens_ssh),
    ("policy", policy),
    ("config", config),
];

/// Bytes in pieces: each after a byte whose lowest bit is the way, and the others its length.
fn pieces(mut bytes: &[u8]) -> Vec<(Direction, &[u8])> {
    let mut all = vec![];
    while let Some((head, rest)) = bytes.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(head >> 1)));
        all.push((if head & 1 == 0 { Direction::ToAgent } else { Direction::ToClient }, piece));
        bytes = rest;
    }
    all
}

pub(crate) fn lens_command(bytes: &[u8]) {
    let mut lens = Observer::new(Lens::Command, 24, 80);
    for (way, piece) in pieces(bytes) {
        match way {
            Direction::ToAgent => lens.input(piece),
            Direction::ToClient => drop(lens.output(piece)),
        }
    }
    for line in lens.finish() {
        assert!(!line.text.chars().any(char::is_control) && line.text.len() <= bz_server::observe::LONGEST_LINE + 8);
    }
}

pub(crate) fn lens_files(bytes: &[u8]) {
    let way = CopyWay::ToTarget { name: b"name".to_vec() };
    let request = CopyRequest { way, path: b"/tmp".to_vec(), recursive: true, preserve: true };
    let mut lens = FilesLens::new(&request);
    for (number, (way, piece)) in (0..).zip(pieces(bytes)) {
        drop(lens.bytes(way, number % 2, piece));
    }
    drop(lens.finish());
}

fn query(wire: Wire, bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let mut lens = QueryLens::new(wire, first & 1 == 0).unwrap();
    for (now, (way, piece)) in (0..).zip(pieces(bytes)) {
        drop(lens.bytes(now, way, piece));
    }
    drop(lens.finish());
}

pub(crate) fn lens_postgres(bytes: &[u8]) {
    query(Wire::Postgres, bytes);
}

pub(crate) fn lens_mysql(bytes: &[u8]) {
    query(Wire::Mysql, bytes);
}

pub(crate) fn lens_http(bytes: &[u8]) {
    let mut lens = HttpLens::default();
    let at = |number| UnixTime::from_millis(number);
    let all = pieces(bytes);
    for (number, (way, piece)) in (0..).zip(&all) {
        for exchange in lens.bytes(at(number), (*way, 16), piece) {
            drop(exchange.path());
            drop(bz_server::observe::kube::action(&exchange));
        }
        drop(lens.typed());
    }
    drop(lens.eof(at(1000), (Direction::ToAgent, 16)));
    drop(lens.finish(at(1001)));
}

pub(crate) fn lens_ssh(bytes: &[u8]) {
    let mut lens = SshLens::default();
    for (number, (way, piece)) in (0..).zip(pieces(bytes)) {
        drop(lens.bytes(way, 1 + number % 5, piece));
        drop(lens.files());
        drop(lens.refused());
    }
    drop(lens.finish());
    drop(lens.finish_files());
}

fn body<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(body) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_string(&body).unwrap();
        let again: T = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text, "what is written is read as the same");
    }
}

pub(crate) fn policy(bytes: &[u8]) {
    body::<TargetConnectPolicy>(bytes);
    body::<ProxyPolicy>(bytes);
    body::<KubernetesPolicy>(bytes);
    body::<RecordingPolicy>(bytes);
}

pub(crate) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (file, setting) = text.split_once('\0').unwrap_or((&text, ""));
    let environment = setting.split_once('=').map(|(name, value)| (format!("BZ_SERVER_{name}"), value.to_owned()));
    drop(Config::parse(file, environment));
}
