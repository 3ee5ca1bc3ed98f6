//! Two verifiers of transcripts, ours and `docs/verify.py`, that share no code: whatever a file is, both say the same.
//!
//! Transcripts are generated from seeds: every shape of request, both modes, carriers cut, relays restarted, tokens and
//! content taken out, claims of the server, segments, files cut off, and files that somebody changed. In the default size
//! there are few; `BZ_TEST=full` takes 1,000 and every one-byte change of ten. `BZ_SEED` names one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::{CopyRequest, CopyWay, Parameters, Size};
use bz_core::access::upstream::{DatabaseRequest, KubeRequest, WebRequest, Wire};
use bz_core::digest::Digest;
use bz_core::id::ShellId;
use bz_core::signed::Signed;
use bz_core::ssh::SshKey;
use bz_core::time::UnixTime;
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_protocol::frame::Fin;
use bz_protocol::handshake::{Attached, Predecessor};
use bz_protocol::keys::Direction;
use bz_protocol::stream::{Answer, StreamRequest, Why};
use bz_protocol::transcript::{
    AgentKnown, Anchors, Apart, Identity, JwksArchive, Keep, Record, Refused, Verdict, WayVerdict, redact, verify,
    withhold,
};
use bz_protocol::{agent, client};
use serde_json::{Value, json};

use crate::idp::{ISSUER, Idp};
use crate::sim::{Random, Sim};
use crate::tap::{Tap, file, parties, records};
use crate::world::{ORG, START, TARGET, World, key};

const SHELL: ShellId = ShellId::from_bytes([6; 16]);

fn full() -> bool {
    std::env::var("BZ_TEST").is_ok_and(|size| size == "full")
}

fn seeds() -> Vec<u64> {
    match std::env::var("BZ_SEED") {
        Ok(seed) => vec![seed.parse().expect("BZ_SEED is a number")],
        Err(_) => (0..if full() { 1000 } else { 50 }).collect(),
    }
}

/// TR-SECOND-1, PR-TRANSCRIPT-2: on generated transcripts, whole, thinned out, cut and changed, both verifiers say the same.
#[test]
fn two_verifiers_agree_on_generated_transcripts() {
    let Some(bench) = Bench::new() else { return };
    let all: Vec<(u64, Vec<u8>)> = seeds().into_iter().map(|seed| (seed, generated(seed))).collect();
    let list = all.iter().map(|(seed, bytes)| bench.write(&format!("{seed}.bzt"), bytes).display().to_string());
    let theirs = bench.run(&list.collect::<Vec<_>>().join("\n"));
    assert_eq!(theirs.len(), all.len(), "docs/verify.py stopped at seed {}", all[theirs.len()].0);
    let mut accepted = 0;
    for ((seed, bytes), theirs) in all.iter().zip(&theirs) {
        let ours = bench.ours(bytes);
        accepted += usize::from(ours["accepted"] == true);
        assert!(same(&ours, theirs), "seed {seed}:\n ours  {ours}\n theirs {theirs}");
    }
    println!("{} transcripts from seeds {:?}: both accept {accepted}", all.len(), seeds().first().zip(seeds().last()));
    assert!(all.len() == 1 || (all.len() / 3..all.len()).contains(&accepted), "{accepted} of {}", all.len());
}

/// TR-SECOND-2: of every one-byte change both verifiers say the same.
#[test]
fn two_verifiers_agree_on_one_byte_changes() {
    let Some(bench) = Bench::new() else { return };
    let (count, step) = if full() { (10, 1) } else { (1, 23) };
    let mut accepted = 0;
    let mut changed = 0;
    for seed in 0..count {
        let bytes = small(seed);
        let path = bench.write(&format!("small-{seed}.bzt"), &bytes);
        let mut random = Random(seed);
        let changes: Vec<(usize, u8)> =
            (0..bytes.len()).step_by(step).map(|at| (at, bytes[at] ^ (1 + random.below(255) as u8))).collect();
        let mut list = String::new();
        for (at, byte) in &changes {
            writeln!(list, "{} {at} {byte}", path.display()).unwrap();
        }
        let theirs = bench.run(&list);
        assert_eq!(theirs.len(), changes.len(), "docs/verify.py stopped at seed {seed}, {:?}", changes[theirs.len()]);
        for ((at, byte), theirs) in changes.iter().zip(&theirs) {
            let mut other = bytes.clone();
            other[*at] = *byte;
            let ours = bench.ours(&other);
            accepted += usize::from(ours["accepted"] == true);
            assert!(same(&ours, theirs), "seed {seed}, byte {at} is {byte}:\n ours  {ours}\n theirs {theirs}");
        }
        changed += changes.len();
    }
    println!("{changed} changes of {count} transcripts, seeds 0 to {}: both accept {accepted}", count - 1);
}

/// PR-TRANSCRIPT-1: files of version 1 that were written before give the verdict that they gave, by both verifiers.
#[test]
fn frozen_files_give_the_verdict_they_gave() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/transcripts.json");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        fs::write(&path, serde_json::to_string_pretty(&frozen()).unwrap() + "\n").unwrap();
    }
    let told_before: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let bundle = TrustBundle::parse(&text(&told_before["bundle"])).unwrap();
    let archive = JwksArchive::parse(&text(&told_before["keys"])).unwrap();
    let rows: Vec<(Vec<u8>, Value)> = told_before["transcripts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (hex::decode(text(&row["file"])).unwrap(), row["verdict"].clone()))
        .collect();
    assert_eq!(rows.len(), 6, "files are added, never taken away");
    for (number, (bytes, verdict)) in rows.iter().enumerate() {
        assert_eq!(&told(verify(bytes, &Anchors::Bundle(&bundle, &archive))), verdict, "transcript {number}");
    }
    let Some(bench) = Bench::with(bundle, archive) else { return };
    let list: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(number, (bytes, _))| bench.write(&format!("{number}.bzt"), bytes).display().to_string())
        .collect();
    let theirs = bench.run(&list.join("\n"));
    assert_eq!(theirs, rows.into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>());
}

/// What the file of frozen transcripts was made of, once.
fn frozen() -> Value {
    let (bundle, archive) = anchors();
    let rows: Vec<Value> = (0..6)
        .map(|seed| {
            let bytes = small(seed);
            let verdict = told(verify(&bytes, &Anchors::Bundle(&bundle, &archive)));
            json!({ "file": hex::encode(bytes), "verdict": verdict })
        })
        .collect();
    json!({ "bundle": bundle.to_text().unwrap(), "keys": archive.to_text(), "transcripts": rows })
}

fn anchors() -> (TrustBundle, JwksArchive) {
    let mut bundle = World::new().bundle();
    bundle.directory_key = Some(key(50).public());
    let mut archive = JwksArchive::new();
    for idp in [Idp::new(3, "k3"), World::idp()] {
        archive.add(ISSUER, &idp.jwks()).unwrap();
    }
    (bundle, archive)
}

/// Whether both say the same: of a file that is refused, that it is.
fn same(ours: &Value, theirs: &Value) -> bool {
    match ours["accepted"] == true {
        true => ours == theirs,
        false => theirs["accepted"] == false,
    }
}

/// The second verifier, and what both are given.
struct Bench {
    folder: tempfile::TempDir,
    bundle: TrustBundle,
    archive: JwksArchive,
    python: PathBuf,
}

/// What runs `docs/verify.py`: the one that `BZ_VERIFIER` names, that `cargo suite` installed, or this machine's own.
fn python() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/verifier/bin/python3");
    let able = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import tomllib, cryptography"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let named = std::env::var_os("BZ_VERIFIER").map(PathBuf::from);
    [named, Some(installed), Some("python3".into())].into_iter().flatten().find(able)
}

impl Bench {
    /// `None` where there is no Python that can run it.
    fn new() -> Option<Self> {
        let (bundle, archive) = anchors();
        Self::with(bundle, archive)
    }

    #[expect(clippy::print_stdout, reason = "what a test leaves out is said")]
    fn with(bundle: TrustBundle, archive: JwksArchive) -> Option<Self> {
        let Some(python) = python() else {
            let line = "docs/verify.py needs Python 3.11 with the package cryptography: examples/peers/verifier/build";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{line}");
            println!("LEFT OUT: {line}");
            return None;
        };
        let bench = Self { python, folder: tempfile::tempdir().unwrap(), bundle, archive };
        bench.write("bundle.toml", bench.bundle.to_text().unwrap().as_bytes());
        bench.write("keys.json", bench.archive.to_text().as_bytes());
        Some(bench)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn ours(&self, bytes: &[u8]) -> Value {
        told(verify(bytes, &Anchors::Bundle(&self.bundle, &self.archive)))
    }

    /// What the other says of each line.
    fn run(&self, list: &str) -> Vec<Value> {
        let list = self.write("list", list.as_bytes());
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/verify.py");
        let mut command = Command::new(&self.python);
        command.arg(program).arg("--bundle").arg(self.folder.path().join("bundle.toml"));
        command.arg("--keys").arg(self.folder.path().join("keys.json")).arg("--each");
        let output = command.stdin(File::open(list).unwrap()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.is_empty(), "docs/verify.py: {complaint}");
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A verdict as `docs/verify.py` prints it.
fn told(verdict: Result<Verdict, Refused>) -> Value {
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(refused) => return json!({"accepted": false, "why": refused.to_string()}),
    };
    let way = |way: &WayVerdict| {
        json!({
            "frames": way.frames, "bytes": way.bytes, "withheld": way.withheld, "client": way.coverage.client,
            "agent": way.coverage.agent,
        })
    };
    let status = verdict.status.map(|fin| match fin {
        Fin::Exited(code) => json!(["exited", code]),
        Fin::Signaled(signal) => json!(["signaled", signal]),
        Fin::Detached => json!(["detached", null]),
        Fin::Closed => json!(["closed", null]),
        Fin::Done => json!(["done", null]),
    });
    let directory = match verdict.agent_known {
        AgentKnown::Directory(name) => Some(name),
        AgentKnown::Grant => None,
    };
    let server = verdict
        .server_claims
        .map(|claims| json!([claims.time.as_millis(), claims.reason, claims.only.frames, claims.only.bytes]));
    let tail = verdict.uncovered_tail;
    json!({
        "accepted": true,
        "session": verdict.session.to_string(),
        "connection": verdict.connection.to_string(),
        "issuer": verdict.person.issuer,
        "subject": verdict.person.subject,
        "identity": if verdict.identity == Identity::Proved { "proved" } else { "attested" },
        "target": verdict.request.target.to_string(),
        "user": verdict.user.map(|user| user.to_string()),
        "mode": verdict.request.mode.to_string(),
        "grant": verdict.grant.to_string(),
        "directory": directory,
        "segment": verdict.segment.is_some(),
        "predecessor": verdict.predecessor.map(|before| before.session.to_string()),
        "started": verdict.started.as_millis(),
        "ended": verdict.ended.map(UnixTime::as_millis),
        "lastSigned": verdict.last_signed.map(UnixTime::as_millis),
        "status": status,
        "complete": verdict.complete,
        "toAgent": way(&verdict.to_agent),
        "toClient": way(&verdict.to_client),
        "uncoveredTail": [tail.frames, tail.bytes],
        "conflicts": verdict.conflicts,
        "server": server,
    })
}

/// What a session can be asked for.
fn request(random: &mut Random) -> (Parameters, Option<&'static str>) {
    let size = Size { rows: 24, columns: 80 };
    let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let ssh = || SshKey::from_seed(&[1; 32]).unwrap().public().blob().to_vec();
    let destination = || "db.internal:5432".parse().unwrap();
    let user = Some("alice");
    match random.below(12) {
        0 => (Parameters::Exec { command: "uname -a; echo ä".to_owned() }, user),
        1 => (Parameters::Handler { route: "admin/debug".to_owned() }, None),
        2 => {
            (Parameters::Tunnel { destinations: rules(&["*.internal:443", "10.0.0.0/8:*", "[fd00::/8]:1-1024"]) }, None)
        }
        3 => (
            Parameters::Tunnel { destinations: rules(&["*:*", "[::1]:80", "[::ffff:10.0.0.1]:9", "10.0.0.1:22"]) },
            None,
        ),
        4 => (Parameters::Ssh { key: ssh() }, user),
        5 => {
            let way = CopyWay::ToTarget { name: b"\xff name".to_vec() };
            (Parameters::Copy(CopyRequest { way, path: b"/tmp".to_vec(), recursive: true, preserve: false }), user)
        }
        6 => (
            Parameters::Database(DatabaseRequest { destination: destination(), wire: Wire::Postgres, tls: true }),
            user,
        ),
        7 => (Parameters::Web(WebRequest { destination: destination(), tls: false }), None),
        8 => (Parameters::Kube(KubeRequest { user: "system:x".to_owned(), groups: vec!["dev".to_owned()] }), None),
        9 => (Parameters::SshServer { key: ssh(), purpose: bz_core::access::request::SshPurpose::ShellAndFiles }, user),
        _ => (Parameters::Shell { term: "xterm-256color".to_owned(), size }, user),
    }
}

/// A transcript, and perhaps what somebody made of it.
fn generated(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let bytes = if random.below(12) == 0 { crate::segment::of_segment() } else { recorded(&mut random, 40_000) };
    let bytes = match random.below(6) {
        0 => withhold(&bytes).unwrap(),
        1 => redact(&bytes).unwrap(),
        2 => withhold(&redact(&bytes).unwrap()).unwrap(),
        _ => bytes,
    };
    match random.below(8) {
        0 => bytes[..random.below(bytes.len() as u64) as usize].to_vec(),
        1 => rearranged(&bytes, &mut random),
        2 => {
            let mut bytes = bytes;
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            bytes
        }
        _ => bytes,
    }
}

/// A transcript so small that each of its bytes can be changed.
fn small(seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 100_000);
    let bytes = if seed == 3 { crate::segment::of_segment() } else { recorded(&mut random, 40) };
    match seed % 3 {
        1 => redact(&bytes).unwrap(),
        2 => withhold(&bytes).unwrap(),
        _ => bytes,
    }
}

/// Records left out, doubled, or in another order.
fn rearranged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut all: Vec<Record> = records(bytes).into_iter().map(|(_, record)| record).collect();
    let at = random.below(all.len() as u64) as usize;
    let other = random.below(all.len() as u64) as usize;
    match random.below(3) {
        0 => drop(all.remove(at)),
        1 => all.swap(at, other),
        _ => all.insert(other, all[at].clone()),
    }
    file(&all)
}

fn world(random: &mut Random) -> World {
    let mut world = World::new();
    (world.parameters, world.user) = request(random);
    let inspected = matches!(world.parameters, Parameters::Web(_) | Parameters::Kube(_) | Parameters::SshServer { .. });
    world.mode = if !inspected && random.below(3) == 0 { Mode::Sealed } else { Mode::Inspected };
    world
}

/// A session of at most about this many bytes in each direction, recorded.
fn recorded(random: &mut Random, most: u64) -> Vec<u8> {
    let world = world(random);
    let mut known = parties(&world);
    if random.below(3) == 0 {
        known.directory = Some((key(50).public(), Signed::seal(&entry(), ORG, &key(50)).unwrap()));
    }
    let keep = Keep { output: random.below(3) > 0, input: random.below(2) > 0, apart: Apart::Nothing };
    let mut sim = Sim::new(&world, random.next());
    let mut tap = Tap::with(known, keep);
    tap.far = random.below(2) == 0;
    sim.tap = Some(tap);
    if matches!(world.parameters, Parameters::Shell { .. }) && random.below(2) == 0 {
        let part = |name: &[u8]| Digest::of(name);
        let predecessor = Predecessor { session: part(b"a"), to_agent: part(b"b"), to_client: part(b"c") };
        sim.attached = Some(Attached { shell: SHELL, predecessor: (random.below(2) == 0).then_some(predecessor) });
    }
    (sim.client_app.to_send, sim.agent_app.to_send) = (random.below(most) as usize, random.below(most) as usize);
    sim.latency = Duration::from_millis(1 + random.below(80));
    sim.answer = if random.below(2) == 0 { Fin::Exited(3) } else { Fin::Signaled(15) };
    sim.connect();
    if most < 100 {
        sim.settle();
    } else {
        lived(&mut sim, &world, random);
    }
    if random.below(4) > 0 {
        sim.close();
    }
    signed(sim, &world, random)
}

fn entry() -> DirectoryEntry {
    DirectoryEntry {
        target: TARGET,
        name: "web-1".to_owned(),
        agent_key: key(13).public(),
        address: "10.0.0.1:22".to_owned(),
        serial: 1,
        expires_at: UnixTime::from_secs(START + 1000),
    }
}

/// Time passes: carriers are cut, the relay is restarted, a login is renewed, streams are opened.
fn lived(sim: &mut Sim, world: &World, random: &mut Random) {
    let dials = matches!(world.parameters, Parameters::Tunnel { .. });
    for round in 0..4 {
        sim.pass(Duration::from_millis(random.below(300)));
        match random.below(6) {
            0 => {
                sim.cut();
                if random.below(2) == 0 {
                    sim.tap.as_mut().unwrap().restart();
                }
                sim.connect();
            }
            1 => {
                let newer = world.certificate(1 + round);
                sim.client.act(sim.now, client::Action::Reauthenticate(newer)).unwrap_or_default();
            }
            2 if sim.tap.as_ref().unwrap().observer.session().is_some() => {
                sim.tap.as_mut().unwrap().claim(world, "goes on");
            }
            _ if dials => open(sim, random),
            _ => {}
        }
    }
    sim.settle();
}

fn open(sim: &mut Sim, random: &mut Random) {
    let Some(stream) = sim.client.next_stream() else { return };
    let request = StreamRequest::Dial("10.0.0.1:22".parse().unwrap());
    if sim.client.act(sim.now, client::Action::Open { stream, request }).is_err() {
        return;
    }
    sim.settle();
    let refused = random.below(2) == 0;
    let answer =
        if refused { Answer::Refused(Why::WrongName) } else { Answer::Opened { at: "10.0.0.1:22".to_owned() } };
    sim.agent.act(sim.now, agent::Action::Answer { stream, answer }).unwrap_or_default();
    sim.settle();
}

/// What the ends hand out of a sealed session, and what the server signs.
fn signed(sim: Sim, world: &World, random: &mut Random) -> Vec<u8> {
    let (client, agent) = (sim.client.receipt(), sim.agent.receipt());
    let mut tap = sim.tap.unwrap();
    if world.mode == Mode::Sealed && random.below(3) > 0 {
        let out = [
            (Direction::ToAgent, client.and_then(|receipt| receipt.client)),
            (Direction::ToClient, agent.and_then(|receipt| receipt.agent)),
        ];
        for (direction, payload) in out {
            if let Some(record) = payload.and_then(|payload| tap.observer.checkpoint(direction, &payload).ok()) {
                tap.append(&record);
            }
        }
    }
    if random.below(2) == 0 {
        tap.claim(world, "closed by its person");
    }
    tap.file
}
