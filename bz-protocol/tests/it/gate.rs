//! The gate: every field it compares, changed alone, and what a refusal leaves behind: nothing.

use std::time::Duration;

use bz_core::access::request::{Parameters, Request, RequestError, SshPurpose};
use bz_core::access::{Mode, Verb};
use bz_core::cert::{CertError, CertRequest};
use bz_core::digest::Digest;
use bz_core::grant::{
    GrantBody, GrantError, MAX_OPENING, MAX_SESSION, Mfa, Purpose, ServerCert, ServerCertError, SignedGrant,
};
use bz_core::id::{BootId, ConnectionId, GrantId, OrganizationId, TargetId};
use bz_core::key::PrivateKey;
use bz_core::local::{LocalDenial, LocalPolicy};
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::service::{self, JwksPattern};
use bz_core::oidc::{Person, TokenError};
use bz_core::signed::{Extension, ObjectError, Signed};
use bz_core::ssh::SshKey;
use bz_core::target::UserRule;
use bz_core::time::{Now, UnixTime};
use bz_core::wire::{self, WireError};
use bz_protocol::agent;
use bz_protocol::gate::{Admitted, Confirmed, Denial, Gate, LocalRule, Opening};
use bz_protocol::handshake::Syn;
use bz_protocol::packet::SynPacket;
use bz_protocol::refusal::Code;
use serde_json::{Value, json};

use crate::idp::{Idp, claims};
use crate::stage::{AgentStage, FIRST};
use crate::world::{BOOT, ORG, START, World, key, start};

const OTHER_ORG: OrganizationId = OrganizationId::from_bytes([99; 16]);

/// Everything the gate looks at; a case changes one thing of it.
struct Case {
    world: World,
    gate: Gate,
    jwks: Option<Jwks>,
    now: Now,
    organization: OrganizationId,
    extensions: Vec<Extension>,
    syn: Syn,
    syn_key: PrivateKey,
    certificate: Option<Vec<u8>>,
    grant: GrantBody,
    grant_organization: OrganizationId,
    signer: PrivateKey,
    server: ServerCert,
    server_organization: OrganizationId,
    root: PrivateKey,
    /// Instead of the signed grant.
    grant_bytes: Option<Vec<u8>>,
}

impl Case {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: World) -> Self {
        let certificate = world.certificate(0);
        let syn = world.syn().syn.open(&world.client_key.public(), ORG).unwrap();
        Self {
            gate: world.gate(),
            jwks: Some(World::jwks()),
            now: start(),
            organization: ORG,
            extensions: vec![],
            syn,
            syn_key: world.client_key.clone(),
            certificate: Some(certificate),
            grant: world.grant_body(),
            grant_organization: ORG,
            signer: world.grant_key.clone(),
            server: world.server_cert(),
            server_organization: ORG,
            root: world.root.clone(),
            grant_bytes: None,
            world,
        }
    }

    fn opening(&self) -> Opening {
        opening(self.packet())
    }

    fn packet(&self) -> SynPacket {
        let signed = SignedGrant {
            certificate: Signed::seal(&self.server, self.server_organization, &self.root).unwrap(),
            grant: Signed::seal(&self.grant, self.grant_organization, &self.signer).unwrap(),
        };
        let bytes = || wire::encode(&signed, 1 << 20).unwrap();
        let syn = Syn { grant: self.grant_bytes.clone().unwrap_or_else(bytes), ..self.syn.clone() };
        let syn = Signed::seal_with(&syn, self.organization, &self.extensions, &self.syn_key).unwrap();
        SynPacket { syn, certificate: self.certificate.clone() }
    }

    fn admit(&mut self) -> Result<(), Denial> {
        let opening = self.opening();
        self.gate.admit(&opening, self.jwks.as_ref(), self.now).map(|_| ())
    }

    /// Asks for something else, rightly signed by the client and not by the server.
    fn request(&mut self, change: impl Fn(&mut Request)) {
        let mut request = self.world.request();
        change(&mut request);
        self.syn.request = request.encode().unwrap();
    }

    /// The certificate with a token of other claims.
    fn token(&mut self, change: impl Fn(&mut Value)) {
        let request = CertRequest::new(ORG, &self.world.client_key, [7; 32]);
        let mut body = claims(START, &request.commitment());
        change(&mut body);
        self.tokens(&request, &World::idp().token(&body));
    }

    fn tokens(&mut self, request: &CertRequest, token: &str) {
        let bytes = request.certificate(token, token).unwrap();
        self.syn.certificate = Digest::of(&bytes);
        self.certificate = Some(bytes);
    }
}

/// What the agent's machine makes of a packet.
fn opening(packet: SynPacket) -> Opening {
    let mut stage = AgentStage::new(&World::new());
    stage.syn = packet;
    *stage.judging().opening.unwrap()
}

type Change = fn(&mut Case);

const fn grant_for(what: &'static str) -> Denial {
    Denial::GrantFor(what)
}

const fn server(error: ServerCertError) -> Denial {
    Denial::Grant(GrantError::Certificate(error))
}

fn later(case: &mut Case, by: u64) {
    case.now = case.now.after(Duration::from_secs(by));
}

/// Who the identity says it is.
const IDENTITY: &[(&str, Change, Denial, Code)] = &[
    ("no certificate", |c| c.certificate = None, Denial::CertificateUnknown, Code::CertificateUnknown),
    (
        "another certificate than named",
        |c| c.certificate = Some(c.world.certificate(1)),
        Denial::CertificateMismatch,
        Code::Identity,
    ),
    (
        "an issuer that is not pinned",
        |c| c.token(|t| t["iss"] = json!("https://evil.example")),
        Denial::IssuerUnknown,
        Code::Identity,
    ),
    (
        "another pinned provider",
        |c| c.gate.bundle.providers[0].issuer = "https://other.example".to_owned(),
        Denial::IssuerUnknown,
        Code::Identity,
    ),
    (
        "a certificate that is none",
        |c| {
            c.syn.certificate = Digest::of(b"x");
            c.certificate = Some(b"x".to_vec());
        },
        Denial::IssuerUnknown,
        Code::Identity,
    ),
    ("no keys of the issuer", |c| c.jwks = None, Denial::KeysUnavailable, Code::Unavailable),
    (
        "other keys of the issuer",
        |c| c.jwks = Some(Idp::new(2, "k2").jwks()),
        Denial::Certificate(CertError::Initial(TokenError::UnknownKey)),
        Code::Identity,
    ),
    (
        "another key by the same name",
        |c| c.jwks = Some(Idp::new(2, "k1").jwks()),
        Denial::Certificate(CertError::Initial(TokenError::Signature)),
        Code::Identity,
    ),
    (
        "another audience",
        |c| c.token(|t| t["aud"] = json!("console")),
        Denial::Certificate(CertError::Initial(TokenError::Audience)),
        Code::Identity,
    ),
    (
        "another organization's token",
        |c| c.token(|t| t["org"] = json!("evil")),
        Denial::Certificate(CertError::Initial(TokenError::Organization)),
        Code::Identity,
    ),
    (
        "another organization's certificate",
        |c| {
            let request = CertRequest::new(OTHER_ORG, &c.world.client_key, [7; 32]);
            c.tokens(&request, &World::idp().token(&claims(START, &request.commitment())));
        },
        Denial::Certificate(CertError::Organization),
        Code::Identity,
    ),
    (
        "a token bound to another key",
        |c| c.token(|t| t["nonce"] = json!("x")),
        Denial::Certificate(CertError::Commitment),
        Code::Identity,
    ),
    (
        "an expired token",
        |c| later(c, 3660),
        Denial::Certificate(CertError::Current(TokenError::Expired)),
        Code::Identity,
    ),
    (
        "a login beyond the maximum age",
        |c| {
            c.gate.max_age = Duration::from_secs(100);
            later(c, 100);
        },
        Denial::Certificate(CertError::TooOld),
        Code::Identity,
    ),
    (
        "a token of the future",
        |c| c.token(|t| t["iat"] = json!(START + 61)),
        Denial::Certificate(CertError::Initial(TokenError::Future)),
        Code::Identity,
    ),
    ("a clock before the build date", |c| c.gate.built_at = UnixTime::from_secs(START + 1), Denial::Clock, Code::Clock),
    (
        "another organization's Syn",
        |c| c.organization = OTHER_ORG,
        Denial::Syn(ObjectError::Organization),
        Code::Identity,
    ),
    ("a Syn by another key", |c| c.syn_key = key(98), Denial::Syn(ObjectError::Signature), Code::Identity),
    (
        "a critical extension",
        |c| c.extensions.push(Extension { id: 7, critical: true, bytes: vec![] }),
        Denial::Syn(ObjectError::CriticalExtension),
        Code::Identity,
    ),
    ("a Syn for another agent", |c| c.syn.agent_key = key(97).public(), Denial::OtherAgent, Code::Grant),
    ("versions to come", |c| c.syn.versions = vec![2], Denial::Version, Code::Malformed),
    ("no version", |c| c.syn.versions = vec![], Denial::Version, Code::Malformed),
    ("suites to come", |c| c.syn.suites = vec![2], Denial::Version, Code::Malformed),
    (
        "a request that is none",
        |c| c.syn.request = vec![1],
        Denial::Request(RequestError::Wire(WireError::Malformed)),
        Code::Malformed,
    ),
];

/// What the server granted.
const GRANT: &[(&str, Change, Denial, Code)] = &[
    (
        "a grant that is none",
        |c| c.grant_bytes = Some(vec![1]),
        Denial::Grant(GrantError::Object(ObjectError::Wire(WireError::Malformed))),
        Code::Grant,
    ),
    ("a root that is not pinned", |c| c.root = key(96), server(ServerCertError::Root), Code::Grant),
    (
        "a key certified for control",
        |c| c.server.purpose = Purpose::Control,
        server(ServerCertError::Purpose),
        Code::Grant,
    ),
    (
        "a key certified for records",
        |c| c.server.purpose = Purpose::Record,
        server(ServerCertError::Purpose),
        Code::Grant,
    ),
    (
        "a certificate past its end",
        |c| c.server.not_after = UnixTime::from_secs(START),
        server(ServerCertError::Validity),
        Code::Grant,
    ),
    (
        "a certificate before its time",
        |c| c.server.not_before = UnixTime::from_secs(START + 61),
        server(ServerCertError::Validity),
        Code::Grant,
    ),
    (
        "another organization's server",
        |c| c.server_organization = OTHER_ORG,
        server(ServerCertError::Object(ObjectError::Organization)),
        Code::Grant,
    ),
    (
        "another organization's grant",
        |c| c.grant_organization = OTHER_ORG,
        Denial::Grant(GrantError::Object(ObjectError::Organization)),
        Code::Grant,
    ),
    (
        "a grant by another key",
        |c| c.signer = key(95),
        Denial::Grant(GrantError::Object(ObjectError::Signature)),
        Code::Grant,
    ),
    (
        "a grant by the root itself",
        |c| c.signer = c.root.clone(),
        Denial::Grant(GrantError::Object(ObjectError::Signature)),
        Code::Grant,
    ),
    ("a grant past its time", |c| later(c, 300), Denial::Grant(GrantError::Expired), Code::Grant),
    (
        "a grant before its time",
        |c| c.grant.not_before = UnixTime::from_secs(START + 61),
        Denial::Grant(GrantError::NotYet),
        Code::Grant,
    ),
    (
        "a long grant past the opening window",
        |c| {
            c.grant.not_after = UnixTime::from_secs(START * 2);
            later(c, MAX_OPENING.as_secs());
        },
        Denial::Grant(GrantError::Expired),
        Code::Grant,
    ),
    ("another agent", |c| c.grant.agent_key = key(94).public(), grant_for("agent"), Code::Grant),
    ("another start", |c| c.grant.boot = BootId::from_bytes([94; 16]), grant_for("start of the agent"), Code::Grant),
    (
        "the agent started anew",
        |c| c.gate.boot = BootId::from_bytes([94; 16]),
        grant_for("start of the agent"),
        Code::Grant,
    ),
    ("another client key", |c| c.grant.client_key = key(94).public(), grant_for("client key"), Code::Grant),
    ("another subject", |c| c.grant.person.subject = "bob".to_owned(), grant_for("person"), Code::Grant),
    ("another issuer", |c| c.grant.person.issuer = "https://evil.example".to_owned(), grant_for("person"), Code::Grant),
    (
        "another connection",
        |c| c.grant.connection = ConnectionId::from_bytes([94; 16]),
        grant_for("connection"),
        Code::Grant,
    ),
    (
        "another connection asked for",
        |c| c.syn.connection = ConnectionId::from_bytes([94; 16]),
        grant_for("connection"),
        Code::Grant,
    ),
    ("another target", |c| c.grant.target = TargetId::from_bytes([94; 16]), grant_for("target"), Code::Grant),
    (
        "another target asked for",
        |c| c.request(|r| r.target = TargetId::from_bytes([94; 16])),
        grant_for("target"),
        Code::Grant,
    ),
    ("a target this agent does not serve", |c| c.gate.targets = vec![], grant_for("target"), Code::Grant),
    ("another verb", |c| c.grant.verb = Verb::Tunnel, grant_for("verb"), Code::Grant),
    (
        "a handler asked for",
        |c| {
            c.request(|r| {
                r.user = None;
                r.parameters = Parameters::Handler { route: "x".to_owned() };
            });
        },
        grant_for("verb"),
        Code::Grant,
    ),
    ("another mode", |c| c.grant.mode = Mode::Sealed, grant_for("mode"), Code::Grant),
    ("another mode asked for", |c| c.request(|r| r.mode = Mode::Sealed), grant_for("mode"), Code::Grant),
    ("another request", |c| c.grant.request = Digest::of(b"x"), grant_for("request"), Code::Grant),
    (
        "another command asked for",
        |c| c.request(|r| r.parameters = Parameters::Exec { command: "id".to_owned() }),
        grant_for("request"),
        Code::Grant,
    ),
    (
        "another target user",
        |c| c.grant.user = Some(UserRule::Literal("root".parse().unwrap())),
        grant_for("target user"),
        Code::Grant,
    ),
    ("no target user", |c| c.grant.user = None, grant_for("target user"), Code::Grant),
    (
        "a target user from no address",
        |c| {
            c.grant.user = Some(UserRule::Username);
            c.token(|t| t["email_verified"] = json!(false));
        },
        Denial::User,
        Code::User,
    ),
    (
        "a target user from a foreign domain",
        |c| {
            c.grant.user = Some(UserRule::Username);
            c.token(|t| t["email"] = json!("alice@evil.example"));
        },
        Denial::User,
        Code::User,
    ),
    (
        "root out of an address",
        |c| {
            c.grant.user = Some(UserRule::Username);
            c.token(|t| t["email"] = json!("root@example.com"));
        },
        Denial::User,
        Code::User,
    ),
    (
        "odd characters out of an address",
        |c| {
            c.grant.user = Some(UserRule::Username);
            c.token(|t| t["email"] = json!("a+b@example.com"));
        },
        Denial::User,
        Code::User,
    ),
    (
        "another person's address",
        |c| {
            c.grant.user = Some(UserRule::Username);
            c.token(|t| t["email"] = json!("bob@example.com"));
        },
        grant_for("target user"),
        Code::Grant,
    ),
];

/// What the host's owner allows.
const LOCAL: &[(&str, Change, Denial, Code)] = &[
    (
        "no file where one is required",
        |c| c.gate.local = LocalRule::RefuseAll("no file".to_owned()),
        Denial::LocalUnusable(String::new()),
        Code::LocalPolicy,
    ),
    ("no rule", |c| c.gate.local = policy(""), Denial::Local(LocalDenial::Person), Code::LocalPolicy),
    (
        "a rule for somebody else",
        |c| c.gate.local = policy(&RULE.replace("alice\"]\nv", "bob\"]\nv")),
        Denial::Local(LocalDenial::Person),
        Code::LocalPolicy,
    ),
    (
        "a rule for another verb",
        |c| c.gate.local = policy(&RULE.replace("Shell", "FileTransfer")),
        Denial::Local(LocalDenial::Verb),
        Code::LocalPolicy,
    ),
    (
        "a rule for another user",
        |c| c.gate.local = policy(&RULE.replace("s = [\"alice\"]\nm", "s = [\"root\"]\nm")),
        Denial::Local(LocalDenial::User),
        Code::LocalPolicy,
    ),
    (
        "a rule for another mode",
        |c| c.gate.local = policy(&RULE.replace("inspected", "sealed")),
        Denial::Local(LocalDenial::Mode),
        Code::LocalPolicy,
    ),
    (
        "a rule that wants a recording",
        |c| c.gate.local = policy(&format!("{RULE}require_recording = true")),
        Denial::Local(LocalDenial::Recording),
        Code::LocalPolicy,
    ),
    (
        "a rule that wants a second factor",
        |c| c.gate.local = policy(&format!("{RULE}require_mfa = true")),
        Denial::Local(LocalDenial::Mfa),
        Code::LocalPolicy,
    ),
    (
        "a rule that wants a newer second factor",
        |c| {
            c.gate.local = policy(&format!("{RULE}mfa_minutes = 1"));
            c.grant.mfa = Some(Mfa { method: "totp".to_owned(), at: UnixTime::from_secs(START - 61) });
        },
        Denial::Local(LocalDenial::Mfa),
        Code::LocalPolicy,
    ),
];

/// F-049, TRUST-13: a service account is one whose key set's address the agent's owner pinned; the grant alone lets nobody
/// in, and neither does another organization's claim.
#[test]
fn a_service_account_is_one_whose_address_is_pinned() {
    let address = "https://ci.example/keys/robot.json";
    let admit = |patterns: &[&str], change: fn(&mut Value)| {
        let mut case = Case::new();
        case.gate.bundle.service_accounts = patterns.iter().map(|p| JwksPattern((*p).to_owned())).collect();
        case.token(|claims| {
            claims["iss"] = json!(service::issuer(address));
            claims["sub"] = json!("robot-7");
            claims["aud"] = json!(service::audience(ORG));
            claims["org_id"] = json!(ORG);
            claims.as_object_mut().unwrap().remove("azp");
            change(claims);
        });
        case.grant.person = Person { issuer: service::issuer(address), subject: "robot-7".to_owned() };
        case.admit()
    };
    let pinned = ["https://ci.example/keys/*.json"];
    assert_eq!(admit(&pinned, |_| ()), Ok(()));
    assert_eq!(admit(&[], |_| ()), Err(Denial::IssuerUnknown));
    assert_eq!(admit(&["https://ci.example/other/*.json"], |_| ()), Err(Denial::IssuerUnknown));
    let initial = |error| Err(Denial::Certificate(CertError::Initial(error)));
    assert_eq!(admit(&pinned, |claims| claims["org_id"] = json!("another")), initial(TokenError::Organization));
    assert_eq!(admit(&pinned, |claims| claims["aud"] = json!("cli")), initial(TokenError::Audience));
    let nobody = admit(&pinned, |claims| claims["sub"] = json!("robot-8"));
    assert_eq!(nobody, Err(Denial::GrantFor("person")));
}

/// F-047, F-049, TRUST-12: the second factor is looked at on the target, and what asks for it lets it in.
#[test]
fn a_second_factor_in_the_grant_meets_the_rule_that_asks_for_it() {
    for (rule, ago) in [("require_mfa = true", 3600), ("mfa_minutes = 1", 60)] {
        let mut case = Case::new();
        case.gate.local = policy(&format!("{RULE}{rule}"));
        case.grant.mfa = Some(Mfa { method: "totp".to_owned(), at: UnixTime::from_secs(START - ago) });
        assert_eq!(case.admit(), Ok(()), "{rule}");
    }
}

/// PR-SSHD-3, TRUST-4: a session that is for two verbs needs both of them here, each by a rule of its own or by one.
#[test]
fn every_verb_that_a_session_is_for_must_be_allowed_here() {
    let shell = RULE.to_owned();
    let files = RULE.replace("Shell", "FileTransfer");
    let (rules, both) =
        (format!("{shell}{files}"), RULE.replace("\"Shell\" }", "\"Shell\" }, { type = \"FileTransfer\" }"));
    let denied = Err(Denial::Local(LocalDenial::Verb));
    for (purpose, wanted) in [
        (SshPurpose::Shell, [Ok(()), denied.clone(), Ok(()), Ok(())]),
        (SshPurpose::Files, [denied.clone(), Ok(()), Ok(()), Ok(())]),
        (SshPurpose::ShellAndFiles, [denied.clone(), denied, Ok(()), Ok(())]),
    ] {
        for (rules, want) in [&shell, &files, &rules, &both].into_iter().zip(wanted) {
            let key = SshKey::from_seed(&[1; 32]).unwrap().public().blob().to_vec();
            let mut world = World::new();
            world.parameters = Parameters::SshServer { key, purpose };
            let mut case = Case::of(world);
            case.gate.local = policy(rules);
            assert_eq!(case.admit(), want, "{purpose:?} by {rules}");
        }
    }
}

const RULE: &str = "[[allow]]\nissuer = \"https://idp.example\"\nsubjects = [\"alice\"]\nverbs = [{ type = \"Shell\" }]\n\
                    target_users = [\"alice\"]\nmodes = [\"inspected\"]\n";

fn policy(rules: &str) -> LocalRule {
    LocalRule::Policy(LocalPolicy::parse(&format!("version = 1\n{rules}")).unwrap())
}

/// TRUST-2, TRUST-3, TRUST-4, TRUST-6, TRUST-11 (H2, H10, H11): each thing the gate compares, changed alone, is refused
/// by its own name, and a good opening afterwards works.
#[test]
fn everything_the_gate_compares_decides_alone() {
    assert_eq!(Case::new().admit(), Ok(()), "the good case");
    for (what, change, denial, code) in [IDENTITY, GRANT, LOCAL].concat() {
        let mut case = Case::new();
        change(&mut case);
        let got = case.admit().expect_err(what);
        let same = match (&got, &denial) {
            (Denial::LocalUnusable(_), Denial::LocalUnusable(_)) => true,
            (got, want) => got == want,
        };
        assert!(same, "{what}: {got:?} instead of {denial:?}");
        assert_eq!(got.code(), code, "{what}: {got:?}");
        let mut good = Case::new();
        let pins = std::mem::replace(&mut good.gate, case.gate);
        (good.gate.bundle, good.gate.targets, good.gate.boot) = (pins.bundle, pins.targets, pins.boot);
        (good.gate.max_age, good.gate.local, good.gate.built_at) = (pins.max_age, pins.local, pins.built_at);
        let packet = good.packet();
        let admitted = use_up(&mut good.gate, packet, good.now);
        assert!(admitted.is_ok(), "a good opening after {what}: {admitted:?}");
    }
}

/// PR-REF-1: the peer hears one of a few words, and only some denials are worth fetching keys anew.
#[test]
fn only_unknown_keys_are_worth_a_fetch() {
    let fetch: Vec<_> = [IDENTITY, GRANT, LOCAL].concat();
    let fetch: Vec<_> = fetch.iter().filter(|case| case.2.wants_fresh_keys()).map(|case| case.0).collect();
    assert_eq!(fetch, ["no keys of the issuer", "other keys of the issuer"]);
}

/// PR-GRANT-1: a grant is used once, whether the second comes after the first or beside it.
#[test]
fn a_grant_opens_one_session() {
    let mut case = Case::new();
    let packet = case.packet();
    let [first, second] = [(); 2].map(|()| confirm(&mut case.gate, packet.clone(), case.now).unwrap());
    assert!(case.gate.consume(first, case.now).is_ok());
    let used = case.gate.consume(second, case.now).expect_err("both were admitted before either was confirmed");
    assert_eq!((used.clone(), used.code()), (Denial::GrantUsed, Code::Grant));
    assert_eq!(case.admit(), Err(Denial::GrantUsed));
    // The last moment at which the grant could still open.
    case.now = case.now.after(Duration::from_secs(299));
    assert_eq!(case.admit(), Err(Denial::GrantUsed));
    case.grant.id = GrantId::from_bytes([77; 16]);
    assert_eq!(case.admit(), Ok(()), "another grant is another session");
}

/// PR-GRANT-2: too many grants are a reason to wait, not to forget; the peer hears so.
#[test]
fn a_full_memory_is_no_fault_of_the_client() {
    assert_eq!(Denial::GrantsFull.code(), Code::Unavailable);
    assert_eq!(Denial::OtherCertificate.code(), Code::Identity);
}

/// TRUST-11: `{username}` is computed from the person's own token, and is the one user the grant then means.
#[test]
fn a_user_from_the_identity_is_the_identitys() {
    let mut case = Case::new();
    case.grant.user = Some(UserRule::Username);
    let packet = case.packet();
    let admitted = use_up(&mut case.gate, packet, case.now).unwrap();
    assert!(admitted.user_is_substituted());
    assert_eq!(admitted.request().user.as_ref().unwrap().as_str(), "alice");
    let packet = Case::new().packet();
    assert!(!use_up(&mut Case::new().gate, packet, start()).unwrap().user_is_substituted());
}

/// TRUST-3, TRUST-4 (E1): the session ends at the earliest of what grant, local policy, token and protocol say.
#[test]
fn the_shortest_cap_counts() {
    let ends = |session: u32, rule: &str| {
        let mut world = World::new();
        (world.session_seconds, world.token_life) = (session, 10_000_000);
        let mut stage = AgentStage::new(&world);
        stage.gate.max_age = Duration::from_secs(10_000_000);
        stage.gate.local = if rule.is_empty() { LocalRule::Unrestricted } else { policy(&format!("{RULE}{rule}")) };
        let stage = stage.unconfirmed();
        let ack = stage.ack.unwrap().open(&stage.world.agent_key.public(), ORG).unwrap();
        ack.expires_at.since(start().wall)
    };
    assert_eq!(ends(600, ""), Duration::from_secs(600));
    assert_eq!(ends(600, "session_minutes = 5"), Duration::from_secs(300));
    assert_eq!(ends(600, "session_minutes = 50"), Duration::from_secs(600), "nothing in the file widens a grant");
    assert_eq!(ends(u32::MAX, ""), MAX_SESSION);
}

/// TRUST-9 (I6): when the issuer rotates its keys, a login that this agent knows goes on with a newer token; a new login
/// works; and nothing new is believed by an old key.
#[test]
fn a_login_outlives_the_key_that_signed_it() {
    let (mut case, new) = (Case::new(), Idp::new(2, "k2"));
    let packet = case.packet();
    let admitted = use_up(&mut case.gate, packet, case.now).unwrap();
    case.jwks = Some(new.jwks());
    case.grant.id = GrantId::from_bytes([77; 16]);
    case.now = case.now.after(Duration::from_secs(60));
    let unknown = Denial::Certificate(CertError::Current(TokenError::UnknownKey));
    assert_eq!(case.admit(), Err(unknown.clone()), "the old token alone proves nothing any more");
    assert!(unknown.wants_fresh_keys());
    let request = CertRequest::new(ORG, &case.world.client_key, [7; 32]);
    let initial = World::idp().token(&{
        let mut body = claims(START, &request.commitment());
        body["exp"] = json!(START + case.world.token_life);
        body
    });
    let newer = request.certificate(&initial, &new.token(&claims(START + 50, "dropped"))).unwrap();
    assert!(case.gate.renew(&admitted, &newer, case.jwks.as_ref(), case.now).is_ok());
    case.syn.certificate = Digest::of(&newer);
    case.certificate = None;
    assert_eq!(case.admit(), Ok(()), "a renewed certificate is known by its hash");
    let old = case.world.certificate(20);
    (case.syn.certificate, case.certificate) = (Digest::of(&old), Some(old));
    assert_eq!(case.admit(), Err(unknown));
    case.tokens(&request, &new.token(&claims(START + 51, &request.commitment())));
    assert_eq!(case.admit(), Ok(()), "a new login");
}

/// TRUST-7, PR-REAUTH-2 (I3, E2): only a newer token of the session's own login renews it, under the host's own rules of
/// the moment.
#[test]
fn a_renewal_is_the_same_login_and_passes_the_gate_again() {
    let renew = |change: Change, bytes: fn(&World) -> Vec<u8>| {
        let mut case = Case::new();
        case.grant.user = Some(UserRule::Username);
        let packet = case.packet();
        let admitted = use_up(&mut case.gate, packet, case.now).unwrap();
        case.now = case.now.after(Duration::from_secs(60));
        change(&mut case);
        let bytes = bytes(&case.world);
        case.gate.renew(&admitted, &bytes, case.jwks.as_ref(), case.now).map(|_| ())
    };
    let newer = |world: &World| world.certificate(60);
    assert_eq!(renew(|_| (), newer), Ok(()));
    assert_eq!(renew(|c| c.jwks = None, newer), Err(Denial::KeysUnavailable));
    assert_eq!(renew(|c| c.gate.local = policy(""), newer), Err(Denial::Local(LocalDenial::Person)));
    assert_eq!(renew(|c| c.gate.built_at = UnixTime::from_secs(START * 2), newer), Err(Denial::Clock));
    assert_eq!(renew(|_| (), |_| vec![]), Err(Denial::IssuerUnknown));
    let other = |world: &World| World { client_key: key(93), ..world.clone() }.certificate(60);
    assert_eq!(renew(|_| (), other), Err(Denial::OtherCertificate));
    let again = |world: &World| {
        let request = CertRequest::new(ORG, &world.client_key, [8; 32]);
        let token = World::idp().token(&claims(START + 50, &request.commitment()));
        request.certificate(&token, &token).unwrap()
    };
    assert_eq!(renew(|_| (), again), Err(Denial::OtherCertificate));
    let moved = |world: &World| {
        let request = CertRequest::new(ORG, &world.client_key, [7; 32]);
        let mut body = claims(START, &request.commitment());
        body["exp"] = json!(START + world.token_life);
        let initial = World::idp().token(&body);
        let mut body = claims(START + 60, "x");
        body["email"] = json!("bob@example.com");
        request.certificate(&initial, &World::idp().token(&body)).unwrap()
    };
    assert_eq!(renew(|_| (), moved), Err(Denial::User), "the address now means another user");
}

/// PR-REAUTH-3 (E1): the same token again, under a wall clock that was set back, extends nothing.
#[test]
fn a_clock_set_back_extends_no_session() {
    let mut world = World::new();
    world.token_life = 100;
    let mut stage = AgentStage::new(&world).open();
    let admitted = stage.admitted.clone().unwrap();
    stage.now = stage.now.after(Duration::from_secs(90));
    let back = Now { wall: UnixTime::from_secs(START + 1), ..stage.now };
    let renewal = stage.gate.renew(&admitted, &world.certificate(0), Some(&World::jwks()), back).unwrap();
    stage.agent.act(back, agent::Action::Renew(renewal)).unwrap();
    let end = Now { mono: back.mono, ..back }.after(Duration::from_secs(70));
    stage.agent.handle(end, bz_protocol::session::Input::Tick);
    stage.now = end;
    let done = stage.drain();
    let refused = done.packets.iter().any(|(on, p)| *on == FIRST && p[0] == 4 && p[17] == 7);
    assert!(refused, "expired by the monotonic clock: {done:?}");
    assert_eq!(BOOT, stage.gate.boot);
}

/// Admits an opening and has its client confirm it.
fn confirm(gate: &mut Gate, packet: SynPacket, now: Now) -> Result<Confirmed, Denial> {
    let mut stage = AgentStage::new(&World::new());
    (stage.now, stage.syn) = (now, packet);
    let stage = stage.judging();
    let admission = gate.admit(stage.opening.as_ref().unwrap(), Some(&World::jwks()), now)?;
    let mut stage = stage.admit(admission);
    let packet = stage.peer().checkpoint();
    match stage.say(FIRST, &packet).events.pop() {
        Some(agent::Event::Confirmed(confirmed)) => Ok(*confirmed),
        other => panic!("no confirmation: {other:?}"),
    }
}

fn use_up(gate: &mut Gate, packet: SynPacket, now: Now) -> Result<Admitted, Denial> {
    let confirmed = confirm(gate, packet, now)?;
    gate.consume(confirmed, now)
}
