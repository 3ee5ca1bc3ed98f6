//! What the server keeps of sessions: true ones, of both machines, carried past the record packet by packet.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bz_core::access::request::{CopyRequest, CopyWay, Parameters, Request, Size};
use bz_core::api::Bytes;
use bz_core::api::access::ConnectionMade;
use bz_core::api::error::Code;
use bz_core::api::record::{CommandEvent, FileEvent, FileOutcome, RecordingMatch, SessionRecording, TranscriptFile};
use bz_core::digest::Digest;
use bz_core::id::ConnectionId;
use bz_core::wire;
use bz_protocol::copy::{Copied, Facts, MANIFEST, Message};
use bz_protocol::frame::Fin;
use bz_protocol::gate::Gate;
use bz_protocol::keys::Direction;
use bz_protocol::session::{CarrierId, Input, Output};
use bz_protocol::transcript::{Anchors, Identity, JwksArchive, Verdict, verify};
use bz_protocol::{agent, client};
use bz_server::config::OnRecordFailure;
use bz_server::record::{Carrier, Ends, FOLDER, Unrecorded};
use serde_json::{Value, json};

use crate::idp::ISSUER;
use crate::world::{Agent, As, Client, World};

mod live;
mod lost;

const SECRET: &str = "a-line-that-only-the-screen-shows";
const TYPED: &str = "a-line-that-only-the-keyboard-sent";
const LATER: &str = "a-line-of-another-time";

/// F-107, F-108, F-109, F-110~, F-113, F-114~: output is recorded for whom a policy names, input where it says so, and an
/// administrator sees and searches it while the session runs.
#[tokio::test]
async fn a_recording_is_seen_while_it_is_made() {
    for input in [false, true] {
        let stage = Stage::new(Some(input)).await;
        let mut talk = stage.talk(&shell()).await;
        talk.says(SECRET).await;
        talk.hears(TYPED).await;
        talk.second().await;
        let cast = stage.cast_with(SECRET).await;
        let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let header = json!({"version": 2, "width": 80, "height": 24, "timestamp": lines[0]["timestamp"]});
        assert_eq!(lines[0], header);
        assert!(lines[1..].iter().any(|l| l[1] == "o" && l[2] == SECRET && l[0].as_f64().is_some()), "{cast}");
        assert_eq!(lines[1..].iter().any(|l| l[1] == "i" && l[2] == TYPED), input, "{cast}");
        assert_eq!(stage.at_rest(TYPED), input);
        let path = format!("/session-recordings/{}/search?q=", stage.id());
        let found: Vec<RecordingMatch> = stage.get(&format!("{path}THAT-ONLY-THE-SCREEN")).await.ok();
        assert_eq!(found.iter().map(|found| found.line.as_str()).collect::<Vec<_>>(), [SECRET]);
        stage.get(&path).await.refused(Code::BadRequest);
        let list: Vec<SessionRecording> = stage.get("/session-recordings").await.ok();
        assert_eq!((list.len(), list[0].connection_id, list[0].input_recorded), (1, stage.made.connection_id, input));
        let alice = As::Client(&stage.alice);
        stage.world.get(alice, &format!("/session-recordings/{}", stage.id())).await.refused(Code::Denied);
    }
}

/// F-107: without a recording policy there is no content at rest, and the transcript proves the session all the same.
#[tokio::test]
async fn without_a_policy_no_content_rests() {
    let stage = Stage::new(None).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.hears(TYPED).await;
    talk.close().await;
    let verdict = stage.verdict_when(|v| v.server_claims.is_some()).await;
    assert_eq!((verdict.identity, verdict.complete), (Identity::AttestedByAgent, true));
    assert_eq!(verdict.connection, stage.made.connection_id);
    assert!(verdict.to_client.withheld > 0 && verdict.to_agent.withheld > 0, "{verdict:?}");
    assert_eq!(verdict.server_claims.map(|c| c.reason), Some("both ends closed it".to_owned()));
    assert!(!stage.at_rest(SECRET) && !stage.at_rest(TYPED));
    stage.get(&format!("/session-recordings/{}", stage.id())).await.refused(Code::NotFound);
    let list: Vec<TranscriptFile> = stage.get(&format!("/connections/{}/transcripts", stage.id())).await.ok();
    assert_eq!(list.iter().map(|t| t.number).collect::<Vec<_>>(), [1]);
    let reply = stage.get(&format!("/connections/{}/transcripts/1", stage.id())).await;
    reply.done();
    assert_eq!(stage.check(&reply.body).identity, Identity::AttestedByAgent, "tokens stay with the server");
    stage.get(&format!("/connections/{}/transcripts/2", stage.id())).await.refused(Code::NotFound);
}

/// F-111~: deleted while the session runs, content is nowhere; the transcript verifies, and recording goes on or stops.
#[tokio::test]
async fn a_running_recording_is_deleted() {
    for stop in [false, true] {
        let stage = Stage::new(Some(true)).await;
        let mut talk = stage.talk(&shell()).await;
        talk.says(SECRET).await;
        talk.hears(TYPED).await;
        talk.second().await;
        stage.cast_with(SECRET).await;
        assert!(stage.at_rest(SECRET), "there is something to delete");
        stage.delete(stop).await;
        assert!(!stage.at_rest(SECRET) && !stage.at_rest(TYPED), "content is left after its deletion");
        talk.says(LATER).await;
        talk.close().await;
        let verdict = stage.verdict_when(|v| v.server_claims.is_some()).await;
        assert_eq!((verdict.complete, verdict.uncovered_tail.bytes), (true, 0));
        assert_eq!(stage.at_rest(LATER), !stop);
        stage.delete(false).await;
        assert!(!stage.at_rest(LATER));
        assert!(stage.verdict_when(|v| v.server_claims.is_some()).await.complete);
    }
}

/// The same session on another carrier is the same record, also when the record ended in between.
#[tokio::test]
async fn a_session_that_goes_on_is_one_record() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.says(SECRET).await;
    talk.cut();
    talk.connect().await;
    talk.says("between").await;
    talk.cut();
    stage.world.app.records.shutdown().await;
    talk.connect().await;
    assert_eq!(talk.refused, None);
    talk.says(LATER).await;
    talk.close().await;
    let verdict = stage.verdict_when(|v| v.complete && v.server_claims.is_some()).await;
    assert_eq!((verdict.to_client.withheld, verdict.conflicts), (0, 0));
    assert_eq!(stage.world.app.records.parts(stage.made.connection_id).await.unwrap().len(), 1);
    let cast = stage.cast_with(LATER).await;
    assert!(cast.contains(SECRET) && cast.contains("between"), "{cast}");
}

/// TR-TOKENS-1, TR-TOKENS-2, TR-OBSERVE-1: tokens, of the opening and of each renewal, are in no file as they are; a
/// session goes on from a file without them; an administrator has them when they have ended, which the log says; both
/// forms have one claim of the server.
#[tokio::test]
async fn tokens_rest_encrypted_and_leave_when_they_have_ended() {
    let stage = Stage::new(Some(false)).await;
    let mut talk = stage.talk(&shell()).await;
    talk.renews().await;
    talk.says(SECRET).await;
    talk.cut();
    stage.world.app.records.shutdown().await;
    talk.connect().await;
    assert_eq!(talk.refused, None, "a file without tokens is not gone on with");
    talk.renews().await;
    talk.close().await;
    let closed = |v: &Verdict| v.server_claims.as_ref().is_some_and(|claim| claim.reason.starts_with("both ends"));
    let verdict = stage.verdict_when(closed).await;
    assert_eq!((verdict.identity, verdict.complete), (Identity::AttestedByAgent, true));
    let token = stage.alice.initial.as_str();
    for part in [token, token.split('.').nth(1).unwrap(), token.split('.').nth(2).unwrap()] {
        assert!(!stage.at_rest(part), "a token is in a file: {part}");
    }
    let folder = stage.data().join(FOLDER).join(stage.id());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.join("1.tokens")), mode(&stage.data().join("tokens.key"))), (0o600, 0o600));

    let path = format!("/connections/{}/transcripts/1?tokens=true", stage.id());
    stage.world.get(As::Client(&stage.alice), &path).await.refused(Code::Denied);
    let early = stage.get(&path).await.refused(Code::Denied);
    assert!(early.error_msg.contains("good until"), "{}", early.error_msg);
    stage.world.advance(3700);
    let admin = stage.world.user("root-of-all").await;
    let reply = stage.world.get(As::Client(&admin), &path).await;
    reply.done();
    let whole = stage.check(&reply.body);
    assert_eq!((whole.identity, whole.complete), (Identity::Proved, true));
    assert_eq!(whole.server_claims, verdict.server_claims, "both forms are one transcript to the server");
    assert_eq!((whole.session, &whole.to_client), (verdict.session, &verdict.to_client));
    assert_eq!((whole.to_agent.withheld, verdict.to_agent.withheld), (0, 2), "two renewals");
    let renewals = reply.body.windows(token.len()).filter(|w| *w == token.as_bytes()).count();
    assert_eq!(renewals, 6, "each certificate holds the token twice");
    let log = stage.world.log().await;
    assert!(
        log[0].service_action == "recordservice:transcript" && log[0].context.contains("with tokens"),
        "{:?}",
        log[0]
    );
    let usual = stage.world.get(As::Client(&admin), path.trim_end_matches("?tokens=true")).await;
    assert_eq!(stage.check(&usual.body).identity, Identity::AttestedByAgent);

    // Under another key, or damaged: said, and nothing is made up.
    let tokens = std::fs::read(folder.join("1.tokens")).unwrap();
    let mut damaged = tokens.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(folder.join("1.tokens"), damaged).unwrap();
    stage.world.get(As::Client(&admin), &path).await.refused(Code::Conflict);
    std::fs::write(folder.join("1.tokens"), &tokens[..tokens.len() - 1]).unwrap();
    stage.world.get(As::Client(&admin), &path).await.refused(Code::Conflict);
    std::fs::write(folder.join("1.tokens"), &tokens).unwrap();
    stage.world.get(As::Client(&admin), &path).await.done();
}

/// TR-TOKENS-2: tokens that were cut off while they were written spoil none that come after them.
#[tokio::test]
async fn tokens_go_on_where_they_were_cut_off() {
    let stage = Stage::new(None).await;
    let mut talk = stage.talk(&shell()).await;
    talk.renews().await;
    talk.cut();
    stage.world.app.records.shutdown().await;
    let file = stage.data().join(FOLDER).join(stage.id()).join("1.tokens");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&whole[..], &whole[..40]].concat()).unwrap();
    talk.connect().await;
    talk.renews().await;
    talk.close().await;
    stage.verdict_when(|v| v.complete).await;
    stage.world.advance(3700);
    let admin = stage.world.user("root-of-all").await;
    let path = format!("/connections/{}/transcripts/1?tokens=true", stage.id());
    let reply = stage.world.get(As::Client(&admin), &path).await;
    reply.done();
    assert_eq!(stage.check(&reply.body).identity, Identity::Proved);
}

/// A packet that the two ends did not sign is not relayed.
#[tokio::test]
async fn what_does_not_fit_is_not_relayed() {
    let stage = Stage::new(None).await;
    let carrier = stage.carrier().await;
    assert!(matches!(carrier.see(Direction::ToAgent, b"x").await, Err(Unrecorded::Violation(_))));
    assert!(matches!(carrier.see(Direction::ToClient, b"x").await, Err(Unrecorded::Violation(_))));
    let mut stage = Stage::new(None).await;
    stage.stranger = true;
    let talk = stage.talk(&shell()).await;
    assert!(matches!(talk.refused, Some(Unrecorded::Violation(_))), "{:?}", talk.refused);
    assert!(stage.world.app.records.parts(stage.made.connection_id).await.unwrap().is_empty());
}

/// The command of an exec is logged once, confirmed by the agent's own checkpoint; not confirmed without it.
#[tokio::test]
async fn a_command_is_confirmed_by_the_agent() {
    for confirmed in [true, false] {
        let exec = Parameters::Exec { command: "uptime".to_owned() };
        let stage = Stage::new(None).await;
        let stage = Stage { made: stage.connect(&exec).await, drop_checkpoints: !confirmed, ..stage };
        let talk = stage.talk(&exec).await;
        drop(talk);
        stage.world.app.records.close(stage.made.connection_id, "over");
        stage.world.app.records.shutdown().await;
        let log: Vec<CommandEvent> = stage.get("/events/command").await.ok();
        let got: Vec<_> = log.iter().map(|e| (e.command.as_str(), e.confirmed)).collect();
        assert_eq!(got, [("uptime", confirmed)]);
    }
}

/// PR-COPY-5: of a copy the manifest is kept and no content, whatever is recorded; its log goes on with its record, also
/// after a start of the server, with each file once.
#[tokio::test]
async fn the_log_of_a_copy_goes_on_with_its_record() {
    let stage = Stage::new(Some(true)).await;
    let subjects = json!([{"id": stage.world.id_of(&stage.alice).await, "type": "User"}]);
    let policy = json!({"name": "copies", "subjects": subjects, "targets": [{"id": stage.web.id, "type": "Bzero"}],
        "targetUsers": [{"userName": "deploy"}], "verbs": [{"type": "FileTransfer"}]});
    stage.world.call(As::Client(&stage.admin), "POST", "/policies/target-connect", &policy).await.done();
    let way = CopyWay::FromTarget;
    let copy = Parameters::Copy(CopyRequest { way, path: b"x".to_vec(), recursive: true, preserve: true });
    let stage = Stage { made: stage.connect(&copy).await, ..stage };
    assert!(!stage.made.recorded);
    let mut talk = stage.talk(&copy).await;
    let copied = |path: &[u8]| Message::Copied(Copied { path: path.to_vec(), size: 1, digest: Digest::of(path) });
    let facts = Facts { mode: 0o644, seconds: 0, nanos: 0 };
    let begun = [Message::File { name: vec![], facts, size: 99 }, Message::Data(SECRET.into())];
    talk.tells(0, &begun).await;
    talk.tells(MANIFEST, &[Message::Root { path: b"/in".to_vec() }, copied(b"one")]).await;
    talk.second().await;
    talk.tells(MANIFEST, &[copied(b"two")]).await;
    talk.cut();
    stage.world.app.records.shutdown().await;
    talk.connect().await;
    assert_eq!(talk.refused, None);
    talk.tells(0, &[Message::Data(SECRET.into())]).await;
    talk.tells(MANIFEST, &[copied(b"three")]).await;
    talk.close().await;
    stage.world.app.records.shutdown().await;
    let mut log: Vec<FileEvent> = stage.get("/events/file").await.ok();
    log.reverse();
    let got: Vec<_> = log.iter().map(|row| (row.path.as_str(), row.outcome, row.confirmed)).collect();
    let whole = |path, confirmed| (path, FileOutcome::Copied, confirmed);
    let begun = ("/in", FileOutcome::Incomplete, false);
    assert_eq!(got, [whole("/in/one", true), whole("/in/two", false), begun, whole("/in/three", true)]);
    assert!(!stage.at_rest(SECRET), "the content of a file is kept");
}

/// A record that cannot be written ends its session, or is logged as a gap: by choice, and never silently.
#[tokio::test]
async fn a_lost_record_is_never_silent() {
    for choice in [OnRecordFailure::End, OnRecordFailure::Continue] {
        let stage = Stage::with(Some(false), choice).await;
        stage.world.logged.expect_error("a session's record could not be written and has a gap from here on");
        std::fs::write(stage.data().join(FOLDER), "no folder").unwrap();
        let mut talk = stage.talk(&shell()).await;
        until("the loss is logged", async || {
            let log = stage.world.log().await;
            log.iter().any(|e| e.service_action == "recordservice:lost" && e.resource == stage.id())
        })
        .await;
        talk.says(SECRET).await;
        match choice {
            OnRecordFailure::End => assert_eq!(talk.refused, Some(Unrecorded::NotKept)),
            OnRecordFailure::Continue => assert_eq!(talk.refused, None),
        }
    }
}

struct Stage {
    world: World,
    admin: Client,
    alice: Client,
    web: Agent,
    made: ConnectionMade,
    /// Whether the opening is signed by a key that is not this login's.
    stranger: bool,
    /// Whether what the agent says after its answer is lost.
    drop_checkpoints: bool,
}

/// A session between both machines, past the record.
struct Talk<'a> {
    stage: &'a Stage,
    client: client::Client,
    agent: agent::Agent,
    gate: Gate,
    carrier: Option<Carrier>,
    carriers: u64,
    admitted: bool,
    refused: Option<Unrecorded>,
}

impl Stage {
    async fn new(recorded: Option<bool>) -> Self {
        Self::with(recorded, OnRecordFailure::End).await
    }

    /// Somebody with a connection, recorded or not, with input or without.
    async fn with(recorded: Option<bool>, choice: OnRecordFailure) -> Self {
        let world = World::with(|config| config.on_record_failure = choice).await;
        let (admin, alice) = (world.admin().await, world.user("alice").await);
        let web = world.agent(&admin, "web").await;
        world.allow(&admin, &alice, &web, &["deploy"]).await;
        if let Some(input) = recorded {
            let subjects = json!([{"id": world.id_of(&alice).await, "type": "User"}]);
            let policy = json!({"name": "recorded", "subjects": subjects, "recordInput": input});
            world.call(As::Client(&admin), "POST", "/policies/session-recording", &policy).await.done();
        }
        let made = world.connect(&alice, &web).await;
        Self { world, admin, alice, web, made, stranger: false, drop_checkpoints: false }
    }

    async fn connect(&self, parameters: &Parameters) -> ConnectionMade {
        let parameters = Bytes(wire::encode(parameters, 1024).unwrap());
        let body = json!({"targetId": self.web.id, "parameters": parameters});
        self.world.call(As::Client(&self.alice), "POST", "/connections/universal", &body).await.ok()
    }

    async fn carrier(&self) -> Carrier {
        let connection = self.world.app.store.connection(self.made.connection_id).await.unwrap().unwrap();
        let (client_key, agent_key) = (self.alice.key.public(), self.web.identity.public());
        let ends = Ends { client_key, agent_key, issuer: ISSUER.to_owned() };
        Carrier::new(Arc::clone(&self.world.app), connection, ends)
    }

    async fn talk(&self, parameters: &Parameters) -> Talk<'_> {
        let (app, now) = (&self.world.app, self.world.app.now());
        let user = self.made.target_user.clone();
        let request = Request { target: self.web.id, user, mode: self.made.mode, parameters: parameters.clone() };
        let opening = client::Opening {
            organization: app.organization,
            connection: self.made.connection_id,
            agent_key: self.web.identity.public(),
            request: request.encode().unwrap(),
            grant: self.made.grant.0.clone(),
            certificate: self.alice.request.certificate(&self.alice.initial, &self.alice.initial).unwrap(),
            certificate_known: false,
            key: if self.stranger { self.admin.key.clone() } else { self.alice.key.clone() },
            ephemeral_seed: [31; 32],
            random: [32; 32],
            patience: Duration::from_secs(120),
        };
        let config = agent::Config::new(app.organization, self.web.identity.clone(), [21; 32], [22; 32]);
        let mut talk = Talk {
            stage: self,
            client: client::Client::new(opening, now).unwrap(),
            agent: agent::Agent::new(config, now),
            gate: Gate::new(app.bundle(), self.web.identity.public(), vec![self.web.id], self.web.boot),
            carrier: None,
            carriers: 0,
            admitted: false,
            refused: None,
        };
        talk.connect().await;
        talk
    }

    fn id(&self) -> String {
        ConnectionId::to_string(&self.made.connection_id)
    }

    fn data(&self) -> PathBuf {
        self.world.app.config().data.clone()
    }

    async fn get(&self, path: &str) -> crate::world::Reply {
        self.world.get(As::Client(&self.admin), path).await
    }

    async fn delete(&self, stop: bool) {
        let path = format!("/session-recordings/{}?stop={stop}", self.id());
        self.world.raw(As::Client(&self.admin), "DELETE", &path, vec![]).await.done();
    }

    /// The asciicast, as soon as it holds this.
    async fn cast_with(&self, text: &str) -> String {
        let path = format!("/session-recordings/{}", self.id());
        until("the recording holds the text", async || {
            String::from_utf8(self.get(&path).await.body).unwrap().contains(text)
        })
        .await;
        String::from_utf8(self.get(&path).await.body).unwrap()
    }

    fn check(&self, bytes: &[u8]) -> Verdict {
        verify(bytes, &Anchors::Bundle(&self.world.app.bundle(), &self.archive())).expect("the transcript verifies")
    }

    fn archive(&self) -> JwksArchive {
        let mut archive = JwksArchive::new();
        archive.add(ISSUER, &self.world.issuer.idp.lock().unwrap().jwks()).unwrap();
        archive
    }

    async fn verdict_when(&self, is: impl Fn(&Verdict) -> bool) -> Verdict {
        let (bundle, archive) = (self.world.app.bundle(), self.archive());
        let read = async || self.world.app.records.read(self.made.connection_id, 1).await.unwrap();
        until("the transcript is whole", async || {
            // What is being written right now may be shorter than an opening.
            read().await.is_some_and(|bytes| verify(&bytes, &Anchors::Bundle(&bundle, &archive)).is_ok_and(|v| is(&v)))
        })
        .await;
        self.check(&read().await.unwrap())
    }

    /// Whether any file of the data folder holds this text.
    fn at_rest(&self, text: &str) -> bool {
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path).unwrap().windows(text.len()).any(|w| w == text.as_bytes()) {
                    return true;
                }
            }
        }
        false
    }
}

impl Talk<'_> {
    async fn connect(&mut self) {
        self.carriers += 1;
        let (carrier, now) = (CarrierId(self.carriers), self.stage.world.app.now());
        self.carrier = Some(self.stage.carrier().await);
        self.agent.handle(now, Input::CarrierUp { carrier, random: self.stage.world.seed() });
        self.client.handle(now, Input::CarrierUp { carrier, random: self.stage.world.seed() });
        self.run().await;
    }

    fn cut(&mut self) {
        let (carrier, now) = (CarrierId(self.carriers), self.stage.world.app.now());
        self.carrier = None;
        self.client.handle(now, Input::CarrierDown { carrier });
        self.agent.handle(now, Input::CarrierDown { carrier });
    }

    async fn says(&mut self, text: &str) {
        let bytes = text.as_bytes().to_vec();
        self.agent.act(self.stage.world.app.now(), agent::Action::Bytes { stream: 0, bytes }).unwrap();
        self.run().await;
    }

    /// Says what became of files.
    async fn tells(&mut self, stream: u32, messages: &[Message]) {
        let bytes = messages.iter().flat_map(|message| message.encode().unwrap()).collect();
        let now = self.stage.world.app.now();
        self.agent.act(now, agent::Action::Bytes { stream, bytes }).unwrap();
        self.agent.act(now, agent::Action::Sign).unwrap();
        self.run().await;
    }

    async fn hears(&mut self, text: &str) {
        let bytes = text.as_bytes().to_vec();
        self.client.act(self.stage.world.app.now(), client::Action::Bytes { stream: 0, bytes }).unwrap();
        self.run().await;
    }

    /// Shows a token again, as a client does whose login was refreshed.
    async fn renews(&mut self) {
        let alice = &self.stage.alice;
        let certificate = alice.request.certificate(&alice.initial, &alice.initial).unwrap();
        self.client.act(self.stage.world.app.now(), client::Action::Reauthenticate(certificate)).unwrap();
        self.run().await;
    }

    /// A second passes: what is unsigned gets its checkpoint.
    async fn second(&mut self) {
        self.stage.world.advance(2);
        let now = self.stage.world.app.now();
        self.client.handle(now, Input::Tick);
        self.agent.handle(now, Input::Tick);
        self.run().await;
    }

    async fn close(&mut self) {
        self.client.act(self.stage.world.app.now(), client::Action::Finish(Fin::Closed)).unwrap();
        self.run().await;
        self.second().await;
        assert_eq!(self.refused, None);
        self.cut();
    }

    /// Until neither machine has anything to send.
    async fn run(&mut self) {
        while self.refused.is_none() && (self.client_step().await || self.agent_step().await) {}
    }

    async fn client_step(&mut self) -> bool {
        let now = self.stage.world.app.now();
        match self.client.poll(now) {
            Output::Transmit { carrier, bytes } => {
                if self.relay(Direction::ToAgent, &bytes).await {
                    self.agent.handle(now, Input::Packet { carrier, bytes: &bytes });
                }
            }
            Output::Event(client::Event::Bytes { stream, bytes }) => {
                self.client.act(now, client::Action::Consumed { stream, bytes: bytes.len() }).unwrap_or_default();
            }
            Output::Event(_) | Output::CloseCarrier(_) => {}
            Output::Wait(_) => return false,
        }
        true
    }

    async fn agent_step(&mut self) -> bool {
        let now = self.stage.world.app.now();
        match self.agent.poll(now) {
            Output::Transmit { carrier, bytes } => {
                if self.relay(Direction::ToClient, &bytes).await {
                    self.client.handle(now, Input::Packet { carrier, bytes: &bytes });
                    self.admitted = true;
                }
            }
            Output::Event(event) => self.agent_event(event),
            Output::CloseCarrier(_) => {}
            Output::Wait(_) => return false,
        }
        true
    }

    fn agent_event(&mut self, event: agent::Event) {
        let now = self.stage.world.app.now();
        match event {
            agent::Event::Judge(opening) => {
                let jwks = self.stage.world.issuer.idp.lock().unwrap().jwks();
                let admission = self.gate.admit(&opening, Some(&jwks), now).expect("the gate agrees");
                let action = agent::Action::Admit { admission: Box::new(admission), attached: None, facts: vec![] };
                self.agent.act(now, action).unwrap();
            }
            agent::Event::Confirmed(confirmed) => drop(self.gate.consume(*confirmed, now).unwrap()),
            agent::Event::Bytes { stream, bytes } => {
                self.agent.act(now, agent::Action::Consumed { stream, bytes: bytes.len() }).unwrap_or_default();
            }
            agent::Event::Finished(_) => self.agent.act(now, agent::Action::Finish(Fin::Exited(0))).unwrap_or_default(),
            agent::Event::Answered { .. }
            | agent::Event::Eof { .. }
            | agent::Event::Resize(_)
            | agent::Event::Reauthenticate(_)
            | agent::Event::Delivered(_)
            | agent::Event::Open { .. }
            | agent::Event::Reset { .. }
            | agent::Event::Resumed
            | agent::Event::Ended(_) => {}
        }
    }

    /// Whether the record lets a packet pass.
    async fn relay(&mut self, direction: Direction, packet: &[u8]) -> bool {
        let lost = direction == Direction::ToClient && self.admitted && self.stage.drop_checkpoints;
        let Some(carrier) = self.carrier.as_ref().filter(|_| !lost) else { return false };
        self.refused = carrier.see(direction, packet).await.err();
        self.refused.is_none()
    }
}

fn shell() -> Parameters {
    Parameters::Shell { term: "xterm-256color".to_owned(), size: Size { rows: 24, columns: 80 } }
}

/// Waits for something that another task does, at most ten seconds.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
