//! What one session is opened with, and the forgeries: each changes one thing of it.

use std::time::Duration;

use bz_core::access::Mode;
use bz_core::access::request::{Parameters, Request};
use bz_core::cert::CertRequest;
use bz_core::digest::Digest;
use bz_core::grant::{GrantBody, Purpose, Recording, ServerCert, SignedGrant};
use bz_core::id::{BootId, ConnectionId, GrantId, OrganizationId};
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::oidc::Person;
use bz_core::signed::Signed;
use bz_core::time::UnixTime;
use bz_core::wire;
use serde_json::Value;

use crate::client::Opening;
use crate::hostile::organization::{Dice, ISSUER, KitError, Organization, PERSON, ROUTE};
use crate::hostile::token::{Issuer, Signing, claims};
use crate::limits::PATIENCE;

/// Something false, by name.
#[derive(Debug, Clone, Copy)]
pub struct Forgery {
    /// What is false.
    pub name: &'static str,
    /// Makes it so.
    pub change: fn(&mut Case),
}

/// A token before it is signed.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it says.
    pub claims: Value,
    /// In place of the claims' own text.
    pub text: Option<Vec<u8>>,
    /// How it is signed.
    pub signing: Signing,
    /// By whom.
    pub issuer: Issuer,
}

impl Token {
    /// The token as it travels.
    #[must_use]
    pub fn sign(&self) -> String {
        let text = self.text.clone().unwrap_or_else(|| self.claims.to_string().into_bytes());
        self.issuer.token(&text, self.signing)
    }

    /// Sets a claim.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(claims) = self.claims.as_object_mut() {
            claims.insert(name.to_owned(), value.into());
        }
    }

    /// Takes a claim away.
    pub fn unset(&mut self, name: &str) {
        if let Some(claims) = self.claims.as_object_mut() {
            claims.remove(name);
        }
    }
}

/// Everything that an opening is made of, honest until something of it is changed.
#[derive(Debug, Clone)]
pub struct Case {
    /// The organization that the client names.
    pub organization: OrganizationId,
    /// Now.
    pub now: UnixTime,
    /// The connection that the client names.
    pub connection: ConnectionId,
    /// Whom the opening is for.
    pub agent_key: PublicKey,
    /// What is asked.
    pub request: Request,
    /// The session key.
    pub key: PrivateKey,
    /// A key that the server has.
    pub thief: PrivateKey,
    /// The random of the certificate.
    pub random: [u8; 32],
    /// The login's token.
    pub initial: Token,
    /// The newest token.
    pub current: Token,
    /// Changes the certificate's bytes at the end.
    pub spoil: Option<fn(&mut Vec<u8>)>,
    /// The grant.
    pub grant: GrantBody,
    /// The organization of the grant.
    pub grant_organization: OrganizationId,
    /// Who signs the grant.
    pub signer: PrivateKey,
    /// The certificate of that key.
    pub server: ServerCert,
    /// Who signs that.
    pub root: PrivateKey,
    /// In place of the signed grant.
    pub grant_bytes: Option<Vec<u8>>,
}

/// A session that is about to be opened: the parts, and what a client machine is made of.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The parts.
    pub case: Case,
    /// What they come to.
    pub opening: Opening,
}

/// What differs from one honest session to the next.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The agent's present start.
    pub boot: BootId,
    /// The connection.
    pub connection: ConnectionId,
    /// Now.
    pub now: UnixTime,
    /// When the person logged in.
    pub login: UnixTime,
    /// The mode.
    pub mode: Mode,
}

impl Case {
    /// An honest session.
    ///
    /// # Errors
    /// When the request cannot be encoded.
    pub fn honest(of: &Organization, place: Place, dice: &mut Dice) -> Result<Self, KitError> {
        let parameters = Parameters::Handler { route: ROUTE.to_owned() };
        let request = Request { target: of.target, user: None, mode: place.mode, parameters };
        let random = [7; 32];
        let nonce = CertRequest::new(of.id, &of.person, random).commitment();
        let token = Token {
            claims: claims(place.login, &nonce),
            text: None,
            signing: Signing::Right,
            issuer: of.issuer.clone(),
        };
        let grant = GrantBody {
            id: GrantId::from_bytes(dice.bytes()),
            connection: place.connection,
            person: Person { issuer: ISSUER.to_owned(), subject: PERSON.to_owned() },
            client_key: of.person.public(),
            agent_key: of.agent.public(),
            boot: place.boot,
            target: of.target,
            verb: request.verb(),
            user: None,
            mode: place.mode,
            recording: Recording { output: false, input: false },
            request: Digest::of(&request.encode()?),
            scope: request.parameters.scope(),
            mfa: None,
            policies: vec![],
            policy_version: 1,
            not_before: place.now,
            not_after: place.now.after(Duration::from_secs(300)),
            session_seconds: 8 * 3600,
        };
        Ok(Self {
            organization: of.id,
            now: place.now,
            connection: place.connection,
            agent_key: of.agent.public(),
            request,
            key: of.person.clone(),
            thief: of.thief.clone(),
            random,
            initial: token.clone(),
            current: token,
            spoil: None,
            grant,
            grant_organization: of.id,
            signer: of.grant.clone(),
            server: ServerCert {
                key: of.grant.public(),
                purpose: Purpose::Grant,
                node: "one".to_owned(),
                not_before: of.start,
                not_after: of.start.after(Duration::from_secs(30 * 24 * 3600)),
            },
            root: of.root.clone(),
            grant_bytes: None,
        })
    }

    /// The server itself, with a key of its own that its grant names; the tokens stay the person's.
    pub fn by_thief(&mut self) {
        self.key = self.thief.clone();
        self.grant.client_key = self.thief.public();
    }

    /// Binds both tokens to the session's key, as only the provider could.
    pub fn bind(&mut self) {
        let nonce = CertRequest::new(self.organization, &self.key, self.random).commitment();
        self.both(|token| token.set("nonce", nonce.clone()));
    }

    /// Changes both tokens.
    pub fn both(&mut self, change: impl Fn(&mut Token)) {
        change(&mut self.initial);
        change(&mut self.current);
    }

    /// The grant says what is asked, whatever that is.
    pub fn grant_what_is_asked(&mut self) {
        self.grant.verb = self.request.verb();
        self.grant.mode = self.request.mode;
        self.grant.target = self.request.target;
        self.grant.scope = self.request.parameters.scope();
        if let Ok(bytes) = self.request.encode() {
            self.grant.request = Digest::of(&bytes);
        }
    }

    /// The certificate.
    ///
    /// # Errors
    /// When it is too large.
    pub fn certificate(&self) -> Result<Vec<u8>, KitError> {
        let request = CertRequest::new(self.organization, &self.key, self.random);
        let mut bytes = request.certificate(&self.initial.sign(), &self.current.sign())?;
        if let Some(spoil) = self.spoil {
            spoil(&mut bytes);
        }
        Ok(bytes)
    }

    /// The grant as the server hands it out.
    ///
    /// # Errors
    /// When it is too large.
    pub fn signed_grant(&self) -> Result<Vec<u8>, KitError> {
        if let Some(bytes) = &self.grant_bytes {
            return Ok(bytes.clone());
        }
        let signed = SignedGrant {
            certificate: Signed::seal(&self.server, self.organization, &self.root)?,
            grant: Signed::seal(&self.grant, self.grant_organization, &self.signer)?,
        };
        Ok(wire::encode(&signed, 1 << 20)?)
    }

    /// What a client machine is made of.
    ///
    /// # Errors
    /// When something is too large.
    pub fn opening(&self, dice: &mut Dice) -> Result<Opening, KitError> {
        Ok(Opening {
            organization: self.organization,
            connection: self.connection,
            agent_key: self.agent_key,
            request: self.request.encode()?,
            grant: self.signed_grant()?,
            certificate: self.certificate()?,
            certificate_known: false,
            key: self.key.clone(),
            ephemeral_seed: dice.bytes(),
            random: dice.bytes(),
            patience: PATIENCE,
        })
    }
}
