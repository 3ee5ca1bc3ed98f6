//! The opening's evidence: the identity provider's and the server's word, the client's signature and the agent's.

use bz_core::access::Mode;
use bz_core::cert::{BzCert, CertCheck, Verified};
use bz_core::digest::Digest;
use bz_core::grant::{Grant, GrantError, MAX_GRANT, Pins, SignedGrant};
use bz_core::key::PublicKey;
use bz_core::oidc::Person;
use bz_core::oidc::jwks::Jwks;
use bz_core::oidc::provider::Provider;
use bz_core::signed::{Object, ObjectError, Signed};
use bz_core::target::UserRule;
use bz_core::time::UnixTime;
use bz_core::trust::{DirectoryEntry, TrustBundle};
use bz_core::wire;
use bz_core::{access::request::Request, id::OrganizationId};
use std::time::Duration;

use crate::handshake::{Syn, SynAck, session_id};
use crate::limits::{SUITES, VERSIONS};
use crate::segment::SegmentOpening;
use crate::transcript::anchors::Anchors;
use crate::transcript::history::Ends;
use crate::transcript::record::{Directory, Embedded, Opening};
use crate::transcript::verdict::{Identity, Reason};

/// The agent's owner bounds a login's age, and the agent enforced it; how long that is does not stand in a transcript.
const ANY_AGE: Duration = Duration::MAX;

/// An opening that was checked.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) ends: Ends,
    pub(super) identity: Identity,
    pub(super) person: Person,
    pub(super) syn: Syn,
    pub(super) answer: SynAck,
    pub(super) request: Request,
    pub(super) grant: Grant,
}

/// Whether the file's own anchors may be used beside the verifier's.
pub(super) fn check_embedded(embedded: &Embedded, anchors: &Anchors<'_>) -> Result<(), Reason> {
    let Anchors::Bundle(bundle, _) = anchors else { return Ok(()) };
    if embedded.organization != bundle.organization {
        return Err(Reason::Organization);
    }
    if bundle.roots.contains(&embedded.root) { Ok(()) } else { Err(Reason::RootUnknown) }
}

pub(super) fn check_opening(opening: &Opening, embedded: &Embedded, anchors: &Anchors<'_>) -> Result<Evidence, Reason> {
    let organization = embedded.organization;
    let named = unverified(&opening.syn, organization).map_err(Reason::Syn)?;
    let signed: SignedGrant =
        wire::decode(&named.grant, MAX_GRANT).map_err(|e| Reason::Grant(GrantError::Object(e.into())))?;
    let client_key = client_key(opening, &named, &signed, organization)?;
    let syn = opening.syn.open(&client_key, organization).map_err(Reason::Syn)?;
    let answer = opening.answer.open(&syn.agent_key, organization).map_err(Reason::SynAck)?;
    check_answer(opening, &syn, &answer)?;
    check_keys(embedded, &answer, opening.certificate.is_some())?;
    let certificate = match &opening.certificate {
        Some(bytes) => {
            let claimed = unverified(&signed.grant, organization).map_err(|e| Reason::Grant(GrantError::Object(e)))?;
            Some(check_certificate((bytes, &claimed.person), embedded, anchors, &answer)?)
        }
        None => None,
    };
    let pins = Pins { organization, roots: &[embedded.root], now: answer.verified_at };
    let grant = Grant::verify(&signed, &pins).map_err(Reason::Grant)?;
    let request = Request::decode(&syn.request).map_err(Reason::Request)?;
    check_grant(&grant, &syn, &request, client_key)?;
    check_user(&grant, &request, certificate.as_ref().filter(|_| matches!(anchors, Anchors::Bundle(..))))?;
    if certificate.as_ref().is_some_and(|c| c.claims().person != grant.person) {
        return Err(Reason::GrantFor("person"));
    }
    if let Anchors::Bundle(bundle, _) = anchors
        && bundle.provider(&grant.person.issuer).is_none()
    {
        return Err(Reason::IssuerUnknown);
    }
    let redacted = certificate.is_none();
    Ok(Evidence {
        ends: Ends {
            organization,
            session: session_id(&opening.syn, &opening.answer),
            mode: request.mode,
            client_key,
            agent_key: syn.agent_key,
            redacted,
        },
        identity: if redacted { Identity::AttestedByAgent } else { Identity::Proved },
        person: grant.person.clone(),
        syn,
        answer,
        request,
        grant,
    })
}

/// An object's body before its signature is checked: for finding the key that checks it.
pub(super) fn unverified<T: Object + Clone>(
    signed: &Signed<T>,
    organization: OrganizationId,
) -> Result<T, ObjectError> {
    let mut body = None;
    let checked = signed.open_by(organization, |object: &T| {
        body = Some(object.clone());
        None
    });
    body.ok_or_else(|| checked.err().unwrap_or(ObjectError::Signature))
}

/// The key that the certificate binds; where that was taken out, the one that the grant names.
fn client_key(
    opening: &Opening,
    syn: &Syn,
    grant: &SignedGrant,
    organization: OrganizationId,
) -> Result<PublicKey, Reason> {
    match &opening.certificate {
        Some(bytes) if Digest::of(bytes) != syn.certificate => Err(Reason::CertificateMismatch),
        Some(bytes) => BzCert::claimed_client_key(bytes).ok_or(Reason::CertificateMismatch),
        None => {
            let body = unverified(&grant.grant, organization).map_err(|e| Reason::Grant(GrantError::Object(e)))?;
            Ok(body.client_key)
        }
    }
}

fn check_answer(opening: &Opening, syn: &Syn, answer: &SynAck) -> Result<(), Reason> {
    let check = |same: bool, what| if same { Ok(()) } else { Err(Reason::AnswerFor(what)) };
    check(answer.syn == opening.syn.digest(), "opening message")?;
    check(syn.versions.contains(&answer.version) && VERSIONS.contains(&answer.version), "version")?;
    check(syn.suites.contains(&answer.suite) && SUITES.contains(&answer.suite), "suite")
}

/// Every byte of the file's own keys hangs on a thumbprint that somebody signed.
///
/// The initial token's key is checked with that token, so it has no place where the token was taken out.
fn check_keys(embedded: &Embedded, answer: &SynAck, with_tokens: bool) -> Result<(), Reason> {
    let first = embedded.keys.first().map(|key| Digest::of(key.as_bytes()));
    let fits = first.is_none_or(|thumbprint| thumbprint == answer.idp_key);
    if fits && (with_tokens || embedded.keys.len() <= 1) { Ok(()) } else { Err(Reason::IdpKey) }
}

fn check_certificate(
    (bytes, granted): (&[u8], &Person),
    embedded: &Embedded,
    anchors: &Anchors<'_>,
    answer: &SynAck,
) -> Result<Verified<BzCert>, Reason> {
    let (provider, keys) = provider_and_keys((bytes, granted), embedded, anchors, answer)?;
    let check = CertCheck {
        organization: embedded.organization,
        provider: &provider,
        jwks: &keys,
        max_age: ANY_AGE,
        known_initial: None,
        not_older_than: None,
        now: answer.verified_at,
    };
    let certificate = BzCert::verify(bytes, &check).map_err(Reason::Certificate)?;
    let (initial, current) = (certificate.initial().key(), certificate.claims().key);
    let second = embedded.keys.get(1).map(|key| Digest::of(key.as_bytes()));
    let held = second.is_none_or(|second| second == initial && second != current);
    if current == answer.idp_key && held { Ok(certificate) } else { Err(Reason::IdpKey) }
}

fn provider_and_keys(
    (certificate, granted): (&[u8], &Person),
    embedded: &Embedded,
    anchors: &Anchors<'_>,
    answer: &SynAck,
) -> Result<(Provider, Jwks), Reason> {
    match anchors {
        Anchors::Bundle(bundle, archive) => {
            let provider = bundle.provider_of(certificate).ok_or(Reason::IssuerUnknown)?;
            let missing = Reason::KeyNotArchived(answer.idp_key);
            let keys = archive.issuer(&provider.issuer).filter(|keys| keys.canonical(&answer.idp_key).is_some());
            Ok((provider.into_owned(), keys.ok_or(missing)?.clone()))
        }
        Anchors::FromTranscript => {
            if embedded.keys.is_empty() {
                return Err(Reason::IdpKey);
            }
            let provider = BzCert::claimed_provider(certificate, &granted.subject).ok_or(Reason::IssuerUnknown)?;
            Ok((provider, Jwks::from_canonical(&embedded.keys).map_err(|_| Reason::IdpKey)?))
        }
    }
}

/// As the gate compares them; the agent's boot and the use of the grant are the agent's word.
fn check_grant(grant: &Grant, syn: &Syn, request: &Request, client_key: PublicKey) -> Result<(), Reason> {
    let check = |same: bool, what| if same { Ok(()) } else { Err(Reason::GrantFor(what)) };
    check(grant.agent_key == syn.agent_key, "agent")?;
    check(grant.client_key == client_key, "client key")?;
    check(grant.connection == syn.connection, "connection")?;
    check(grant.target == request.target, "target")?;
    check(grant.verb == request.verb(), "verb")?;
    check(grant.mode == request.mode, "mode")?;
    check(grant.request == Request::digest(&syn.request), "request")
}

/// A user out of the person's address can be recomputed where token and pinned domains are there; elsewhere the agent
/// did it.
fn check_user(grant: &Grant, request: &Request, certificate: Option<&Verified<BzCert>>) -> Result<(), Reason> {
    let same = match (&grant.user, certificate) {
        (None, _) => request.user.is_none(),
        (Some(UserRule::Username), None) => request.user.as_ref().is_some_and(|user| user.as_str() != "root"),
        (Some(rule), certificate) => {
            let address = certificate.and_then(|c| c.claims().address.as_ref());
            request.user.is_some() && rule.resolve(address) == request.user
        }
    };
    if same { Ok(()) } else { Err(Reason::GrantFor("target user")) }
}

/// A segment's id and opening, when the agent of this session signed it.
pub(super) fn check_segment(
    opening: &Signed<SegmentOpening>,
    evidence: &Evidence,
) -> Result<(Digest, SegmentOpening), Reason> {
    let Ends { organization, session, mode, agent_key, .. } = evidence.ends;
    let body = opening.open(&agent_key, organization).map_err(Reason::Segment)?;
    let check = |same: bool, what| if same { Ok(()) } else { Err(Reason::SegmentOf(what)) };
    check(body.held == session, "session")?;
    check(body.connection == evidence.syn.connection, "connection")?;
    check(mode == Mode::Inspected, "mode")?;
    Ok((opening.digest(), body))
}

/// The name under which the directory knows the agent's key.
pub(super) fn check_directory(
    directory: &Directory,
    evidence: &Evidence,
    anchors: &Anchors<'_>,
) -> Result<String, Reason> {
    if let Anchors::Bundle(bundle, _) = anchors
        && bundle.directory_key != Some(directory.key)
    {
        return Err(Reason::Directory("another directory's"));
    }
    let (organization, at): (_, UnixTime) = (evidence.ends.organization, evidence.answer.verified_at);
    let pins = TrustBundle {
        organization,
        roots: vec![],
        directory_key: Some(directory.key),
        service_accounts: vec![],
        providers: vec![],
    };
    let entry = DirectoryEntry::verify(&directory.entry, &pins, at)
        .map_err(|_| Reason::Directory("not signed by that directory, or past its end"))?;
    if entry.agent_key != evidence.ends.agent_key {
        return Err(Reason::Directory("names another agent"));
    }
    if entry.target != evidence.request.target {
        return Err(Reason::Directory("names another target"));
    }
    Ok(entry.name)
}
