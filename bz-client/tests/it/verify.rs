//! `bz verify`: transcripts against what both ends kept, as an operator runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use bz_client::issuer_keys::SeenKeys as _;
use bz_client::profile::Profile;
use bz_client::server::Server;
use bz_client::trust::Trust;
use bz_core::access::Mode;
use bz_core::time::UnixTime;
use bz_protocol::receipt::{Receipt, Receipts as _};
use bz_protocol::transcript::{Apart, Keep, Record};
use serde_json::{Value, json};

use crate::idp::ISSUER;
use crate::program::run;
use crate::sim::Sim;
use crate::tap::{Tap, archive, records};
use crate::world::World;

/// TR-RECEIPT-1, TR-RECEIPT-4: whole transcripts fit; one that lost its end is shortened, one that is gone is missing, and
/// the exit status is not 0 then. A receipt that cannot be read is said, too.
#[tokio::test]
async fn missing_and_shortened_transcripts_are_found() {
    let place = Place::new();
    let sims = ["alice", "bob", "carol"].map(|user| place.session(user, Mode::Inspected));
    let (status, value) = place.verify(&[place.transcripts(), "--receipts", place.receipts()]).await;
    assert_eq!((status, &value["missing"]), (0, &json!([])), "{value}");
    let found: Vec<_> = value["transcripts"].as_array().unwrap().iter().map(|t| (&t["verdict"], &t["good"])).collect();
    assert_eq!(found, vec![(&json!("proved"), &json!(true)); 3]);
    for transcript in value["transcripts"].as_array().unwrap() {
        let receipts: Vec<_> =
            transcript["receipts"].as_array().unwrap().iter().map(|r| (&r["holder"], &r["finding"])).collect();
        assert_eq!(receipts.len(), 2, "{receipts:?}");
        assert!(receipts.iter().all(|(_, finding)| **finding == "fits"), "{receipts:?}");
    }

    // The server drops the last frames of one and all of another.
    let shortened = place.folder.path().join("transcripts/bob.bzt");
    let whole = fs::read(&shortened).unwrap();
    let frames: Vec<_> = records(&whole).into_iter().filter(|(_, r)| matches!(r, Record::Frame { .. })).collect();
    fs::write(&shortened, &whole[..frames[frames.len() - 6].0.offset]).unwrap();
    fs::remove_file(place.folder.path().join("transcripts/carol.bzt")).unwrap();
    let (status, value) = place.verify(&[place.transcripts(), "--receipts", place.receipts()]).await;
    let gone = sims[2].client.receipt().unwrap();
    let missing = &value["missing"][0];
    assert_eq!((status, value["missing"].as_array().unwrap().len()), (1, 1), "{value}");
    assert_eq!(missing["session"], json!(gone.session.to_string()));
    assert_eq!(missing["connection"], json!(gone.connection.to_string()));
    assert_eq!(missing["holders"], json!(["agent", "client"]));
    assert_eq!(missing["lastSigned"], json!(gone.noted_at().unwrap().to_string()));
    let bob = value["transcripts"].as_array().unwrap().iter().find(|t| t["good"] == json!(false)).unwrap();
    assert!(bob["file"].as_str().unwrap().ends_with("bob.bzt"), "{bob}");
    let kinds: Vec<_> = bob["receipts"].as_array().unwrap().iter().map(|r| &r["finding"]).collect();
    assert!(kinds.contains(&&json!("shortened")), "{kinds:?}");
    let said = place.text(&[place.transcripts(), "--receipts", place.receipts()]).await;
    let line = |mark: &str, word: &str| said.lines().any(|line| line.starts_with(mark) && line.contains(word));
    assert!(
        line("ok", "alice.bzt") && line("FAILED", "SHORTENED") && line("MISSING", "as the agent and the"),
        "{said}"
    );

    // One file alone misses nothing without --receipts, and fits nothing without receipts.
    let alice = place.folder.path().join("transcripts/alice.bzt");
    let (status, value) = place.verify(&[alice.to_str().unwrap()]).await;
    assert_eq!((status, &value["transcripts"][0]["receipts"]), (0, &json!([])), "{value}");
    let bob = place.verify(&[shortened.to_str().unwrap()]).await;
    assert_eq!(bob.0, 1, "its end is missing: {}", bob.1);

    fs::remove_dir_all(place.receipts()).unwrap();
    fs::create_dir(place.receipts()).unwrap();
    fs::write(Path::new(place.receipts()).join("x.receipt"), "no receipt").unwrap();
    let (status, value) = place.verify(&[alice.to_str().unwrap(), "--receipts", place.receipts()]).await;
    assert_eq!((status, value["unreadableReceipts"].as_array().unwrap().len()), (1, 1), "{value}");
}

/// TR-RECEIPT-4, TR-VERIFY-1: with a profile nothing need be named: its bundle, the keys it has seen, and its own receipts
/// of the sessions in question. Only when asked must all its sessions be there.
#[tokio::test]
async fn a_profile_brings_bundle_keys_and_receipts() {
    let place = Place::new();
    let sims = ["alice", "bob"].map(|user| place.session(user, Mode::Inspected));
    let bob = place.folder.path().join("transcripts/bob.bzt");
    let profile = Profile::new(&place.config(), "default").unwrap();
    let world = World::new();
    let server = Server::new("https://bz.example").unwrap();
    profile.keep(&server, &Trust::given(world.bundle()).unwrap()).unwrap();
    let bare = async |words: &[&str]| {
        let output = run(&place.config(), &[&["verify", "--json"], words].concat()).await;
        (output.status.code().unwrap(), json_of(&output))
    };
    let (status, value) = bare(&[bob.to_str().unwrap()]).await;
    assert_eq!((status, &value["transcripts"][0]["verdict"]), (1, &json!("refused")), "no keys were seen");
    profile.issuer_keys().saw(ISSUER, &crate::idp::Idp::new(9, "another").jwks(), UnixTime::from_secs(1)).unwrap();
    let (status, value) = bare(&[bob.to_str().unwrap()]).await;
    assert_eq!((status, &value["transcripts"][0]["verdict"]), (1, &json!("refused")), "that key was not seen");
    profile.issuer_keys().saw(ISSUER, &World::jwks(), UnixTime::from_secs(1)).unwrap();
    profile.receipts().keep(&sims[1].client.receipt().unwrap(), UnixTime::from_secs(2)).unwrap();
    let (status, value) = bare(&[bob.to_str().unwrap()]).await;
    assert_eq!((status, &value["transcripts"][0]["receipts"][0]["finding"]), (0, &json!("fits")), "{value}");

    profile.receipts().keep(&sims[0].client.receipt().unwrap(), UnixTime::from_secs(3)).unwrap();
    assert_eq!(bare(&[bob.to_str().unwrap()]).await.0, 0, "nobody asked for all sessions");
    let (status, value) = bare(&[bob.to_str().unwrap(), "--own-receipts"]).await;
    let alice = sims[0].client.receipt().unwrap().session.to_string();
    assert_eq!((status, &value["missing"][0]["session"]), (1, &json!(alice)), "{value}");
    assert_eq!(bare(&[place.transcripts(), "--own-receipts"]).await.0, 0);
}

/// TR-RECEIPT-6: a sealed session's end, and that a session was cut, is known by receipts alone.
#[tokio::test]
async fn receipts_tell_how_far_a_transcript_must_go() {
    let place = Place::new();
    place.session("alice", Mode::Sealed);
    assert_eq!(place.verify(&[place.transcripts()]).await.0, 1, "nothing shows the end of a sealed session");
    let (status, value) = place.verify(&[place.transcripts(), "--receipts", place.receipts()]).await;
    assert_eq!(status, 0, "{value}");
    let said = place.text(&[place.transcripts(), "--receipts", place.receipts()]).await;
    assert!(said.contains("the receipts show that nothing follows"), "{said}");

    let place = Place::new();
    let mut sim = recording("alice", Mode::Inspected);
    sim.settle();
    place.write("alice", &sim);
    let of = |end: &str| format!("{}/alice-{end}.receipt", place.receipts());
    assert_eq!(place.verify(&[place.transcripts(), "--receipts", &of("agent")]).await.0, 0);
    assert_eq!(place.verify(&[place.transcripts(), "--receipts", &of("client")]).await.0, 1, "who left knows no end");
}

struct Place {
    folder: tempfile::TempDir,
    paths: [String; 4],
}

const NAMES: [&str; 4] = ["bundle.toml", "keys.json", "transcripts", "receipts"];

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = NAMES.map(|name| folder.path().join(name).to_str().unwrap().to_owned());
        fs::write(&paths[0], World::new().bundle().to_text().unwrap()).unwrap();
        fs::write(&paths[1], archive().to_text()).unwrap();
        fs::create_dir(&paths[2]).unwrap();
        fs::create_dir(&paths[3]).unwrap();
        Self { folder, paths }
    }

    fn transcripts(&self) -> &str {
        &self.paths[2]
    }

    fn receipts(&self) -> &str {
        &self.paths[3]
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A session of this user on the target, its transcript and both receipts.
    fn session(&self, user: &'static str, mode: Mode) -> Sim {
        let mut sim = recording(user, mode);
        sim.settle();
        sim.close();
        self.write(user, &sim);
        sim
    }

    fn write(&self, user: &str, sim: &Sim) {
        let tap = sim.tap.as_ref().unwrap();
        assert!(tap.violations.is_empty(), "{:?}", tap.violations);
        fs::write(Path::new(self.transcripts()).join(format!("{user}.bzt")), &tap.file).unwrap();
        let keep = |end: &str, receipt: Receipt| {
            fs::write(format!("{}/{user}-{end}.receipt", self.receipts()), receipt.encode().unwrap()).unwrap();
        };
        keep("client", sim.client.receipt().unwrap());
        keep("agent", sim.agent.receipt().unwrap());
    }

    async fn run(&self, words: &[&str]) -> Output {
        let anchors = ["verify", "--bundle", &self.paths[0], "--keys", &self.paths[1]];
        run(&self.config(), &[&anchors, words].concat()).await
    }

    async fn verify(&self, words: &[&str]) -> (i32, Value) {
        let output = self.run(&[words, &["--json"]].concat()).await;
        (output.status.code().unwrap(), json_of(&output))
    }

    async fn text(&self, words: &[&str]) -> String {
        String::from_utf8(self.run(words).await.stdout).unwrap()
    }
}

fn recording(user: &'static str, mode: Mode) -> Sim {
    let mut world = World::new();
    (world.user, world.mode) = (Some(user), mode);
    let mut sim = Sim::new(&world, 7);
    sim.tap = Some(Tap::new(&world, Keep { output: true, input: true, apart: Apart::Nothing }));
    (sim.agent_app.to_send, sim.client_app.to_send) = (3000, 200);
    sim.connect();
    sim
}

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}
