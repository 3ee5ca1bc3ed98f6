//! `docs/protocol.md` against the code: its labels, objects and limits; and its rules, with those of
//! `docs/transcript.md`, against the tests that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bz_core::digest::Label;
use bz_core::grant::{GrantBody, ServerCert};
use bz_core::signed::Object;
use bz_core::trust::DirectoryEntry;
use bz_protocol::checkpoint::{AgentCheckpoint, ClientCheckpoint};
use bz_protocol::handshake::{Syn, SynAck};
use bz_protocol::limits;
use bz_protocol::packet::Forgotten;
use bz_protocol::segment::SegmentOpening;
use bz_protocol::stream::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn document() -> String {
    read("docs/protocol.md")
}

fn read(page: &str) -> String {
    let path = root().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the table behind a mark, without its head.
fn table(document: &str, mark: &str) -> Vec<Vec<String>> {
    let begin = format!("<!-- {mark} -->");
    let (_, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no table {mark:?} in docs/protocol.md"));
    let (table, _) = rest.split_once("<!-- end -->").expect("the table ends");
    let rows = table.trim().lines().skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect()
}

#[test]
fn the_document_lists_every_label() {
    let listed: Vec<_> = table(&document(), "labels").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(listed, Label::ALL.iter().map(|label| label.as_str()).collect::<Vec<_>>());
}

#[test]
fn the_document_lists_every_signed_object() {
    fn row<T: Object>(name: &str) -> Vec<String> {
        vec![name.to_owned(), T::LABEL.as_str().to_owned(), T::VERSION.to_string(), T::LIMIT.to_string()]
    }
    let objects = [
        row::<ServerCert>("ServerCert"),
        row::<GrantBody>("GrantBody"),
        row::<DirectoryEntry>("DirectoryEntry"),
        row::<Syn>("Syn"),
        row::<SynAck>("SynAck"),
        row::<ClientCheckpoint>("ClientCheckpoint"),
        row::<AgentCheckpoint>("AgentCheckpoint"),
        row::<Forgotten>("Forgotten"),
        row::<SegmentOpening>("SegmentOpening"),
        row::<Report>("Report"),
    ];
    assert_eq!(table(&document(), "objects"), objects);
}

#[test]
fn the_document_lists_every_limit() {
    let listed: BTreeMap<_, _> = table(&document(), "limits")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().expect("a number")))
        .collect();
    assert_eq!(listed, all_limits());
    let source = fs::read_to_string(root().join("bz-protocol/src/limits.rs")).unwrap();
    let declared = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    // What this program speaks is told in the text, not in the table.
    for name in declared.filter(|name| !["VERSIONS", "SUITES"].contains(name)) {
        assert!(listed.contains_key(name), "limits::{name} is not in docs/protocol.md");
    }
}

fn all_limits() -> BTreeMap<String, u64> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let own = [
        ("MAX_PAYLOAD", limits::MAX_PAYLOAD as u64),
        ("MAX_PACKET", limits::MAX_PACKET as u64),
        ("SEGMENT_CREDIT", limits::SEGMENT_CREDIT),
        ("SESSION_CREDIT", limits::SESSION_CREDIT),
        ("STREAM_CREDIT", limits::STREAM_CREDIT),
        ("MAX_UNACKED", limits::MAX_UNACKED as u64),
        ("MAX_UNACKED_BYTES", limits::MAX_UNACKED_BYTES),
        ("MAX_STREAMS", limits::MAX_STREAMS.into()),
        ("FRAMES_PER_KEY", limits::FRAMES_PER_KEY),
        ("CHECKPOINT_BYTES", limits::CHECKPOINT_BYTES),
        ("CHECKPOINT_TIME", millis(limits::CHECKPOINT_TIME)),
        ("CHECKPOINT_LINE", millis(limits::CHECKPOINT_LINE)),
        ("UNSIGNED_BYTES", limits::UNSIGNED_BYTES),
        ("MAX_CHECKPOINTS", limits::MAX_CHECKPOINTS.into()),
        ("CHECKPOINT_BURST", limits::CHECKPOINT_BURST.into()),
        ("ACK_DELAY", millis(limits::ACK_DELAY)),
        ("ACK_FRAMES", limits::ACK_FRAMES),
        ("ACK_BYTES", limits::ACK_BYTES),
        ("HANDSHAKE", millis(limits::HANDSHAKE)),
        ("PATIENCE", millis(limits::PATIENCE)),
        ("LOGIN_WARNING", millis(limits::LOGIN_WARNING)),
        ("LINGER", millis(limits::LINGER)),
        ("KEEPALIVE", millis(limits::KEEPALIVE)),
        ("LINK_DEAD", millis(limits::LINK_DEAD)),
        ("HEAD_START", millis(limits::HEAD_START)),
        ("MAX_LINK_STREAMS", limits::MAX_LINK_STREAMS as u64),
        ("MUX_CREDIT", limits::MUX_CREDIT as u64),
        ("MUX_MESSAGE", limits::MUX_MESSAGE as u64),
    ];
    let core = [
        ("MAX_OBJECT", bz_core::wire::MAX_OBJECT as u64),
        ("MAX_EXTENSIONS", bz_core::signed::MAX_EXTENSIONS as u64),
        ("MAX_TOKEN", bz_core::oidc::MAX_TOKEN as u64),
        ("MAX_CERT", bz_core::cert::MAX_CERT as u64),
        ("MAX_JWKS", bz_core::oidc::jwks::MAX_JWKS as u64),
        ("MAX_KEYS", bz_core::oidc::jwks::MAX_KEYS as u64),
        ("MAX_COMMAND", bz_core::access::request::MAX_COMMAND as u64),
        ("MAX_REQUEST", bz_core::access::request::MAX_REQUEST as u64),
        ("MAX_GRANT", bz_core::grant::MAX_GRANT as u64),
        ("MAX_POLICY", bz_core::local::MAX_POLICY as u64),
        ("MAX_BUNDLE", bz_core::trust::MAX_BUNDLE as u64),
        ("SKEW", millis(bz_core::oidc::SKEW)),
        ("DEFAULT_MAX_AGE", millis(bz_core::cert::DEFAULT_MAX_AGE)),
        ("MAX_OPENING", millis(bz_core::grant::MAX_OPENING)),
        ("MAX_SESSION", millis(bz_core::grant::MAX_SESSION)),
        ("WINDOW", millis(bz_core::api::proof::WINDOW)),
    ];
    own.into_iter().chain(core).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn every_rule_has_a_test_and_every_test_a_rule() {
    let document = document() + &read("docs/transcript.md");
    let defined: Vec<_> = document.lines().filter_map(|l| l.strip_prefix("- **")?.split_once("** ")).collect();
    let rules: BTreeSet<_> = defined.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(rules.len(), defined.len(), "an id is defined twice");
    assert!(rules.len() > 90 && rules.iter().all(|id| ids(id) == [id.clone()]), "the rules are read: {rules:?}");
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for path in tests(&root()) {
        let text = fs::read_to_string(&path).unwrap();
        named.extend(ids(&text).into_iter().map(|id| (id, path.display().to_string())));
    }
    let untested: Vec<_> = rules.iter().filter(|id| !named.contains_key(*id)).collect();
    assert!(untested.is_empty(), "rules that no test names: {untested:?}");
    let unknown: Vec<_> = named.iter().filter(|(id, _)| !rules.contains(*id)).collect();
    assert!(unknown.is_empty(), "tests name rules that neither page has: {unknown:?}");
}

/// Files of the workspace that hold tests, but for this one.
fn tests(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && name != "target" {
            found.extend(tests(&path));
        } else if name.ends_with(".rs") && name != "rules.rs" && holds_tests(&path) {
            found.push(path);
        }
    }
    found
}

fn holds_tests(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("#[test]") || text.contains("#[tokio::test"))
}

/// The ids in a text: `TRUST-1`, `PR-WIRE-1`, `TR-FILE-1`.
fn ids(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
    words
        .filter(|word| match word.split('-').collect::<Vec<_>>()[..] {
            ["TRUST", number] => is_number(number),
            ["PR" | "TR", name, number] => is_name(name) && is_number(number),
            _ => false,
        })
        .map(str::to_owned)
        .collect()
}
