//! The organization that is under attack: its provider, its server's keys, one agent, one person. All follow from a seed.

use bz_core::id::{ConnectionId, OrganizationId, TargetId};
use bz_core::key::{KeyError, PrivateKey};
use bz_core::oidc::jwks::{Jwks, JwksError};
use bz_core::oidc::provider::{Commitment, OrganizationClaim, Provider, ProviderKind};
use bz_core::time::UnixTime;
use bz_core::trust::TrustBundle;
use bz_core::wire::WireError;

use crate::hostile::token::Issuer;

/// The issuer that the agent's owner pinned.
pub const ISSUER: &str = "https://idp.example";
/// The audience that the agent's owner pinned.
pub const AUDIENCE: &str = "bz-cli";
/// The person.
pub const PERSON: &str = "alice";
/// The route of the target's program whose every line is an action.
pub const ROUTE: &str = "act";
/// The name of the target.
pub const TARGET_NAME: &str = "victim";

/// What the kit itself could not do; a verdict is never made of it.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A seed gives no key.
    #[error("a seed gives no key: {0}")]
    Key(#[from] KeyError),
    /// The issuer's keys are none.
    #[error("the issuer's keys: {0}")]
    Jwks(#[from] JwksError),
    /// Something is too large.
    #[error("what the server made is {0}")]
    Wire(#[from] WireError),
    /// A session cannot be asked for.
    #[error(transparent)]
    Opening(#[from] crate::client::OpeningError),
    /// A request is none.
    #[error(transparent)]
    Request(#[from] bz_core::access::request::RequestError),
    /// The ends under test could not be started, or a link never came.
    #[error("{0}")]
    Stand(String),
}

/// A small generator, so that a seed names a whole run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A generator that a seed decides.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.roll() % bound).unwrap_or_default()
    }

    /// So many bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.roll().to_be_bytes()[0])
    }
}

/// The organization, with every key that the server could have, and those that it has not.
#[derive(Clone)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// The target under attack.
    pub target: TargetId,
    /// The pinned root.
    pub root: PrivateKey,
    /// The server's real grant key.
    pub grant: PrivateKey,
    /// The server's real control key.
    pub control: PrivateKey,
    /// The agent's identity key. The server has it not.
    pub agent: PrivateKey,
    /// The agent's control key. The server has it not.
    pub agent_control: PrivateKey,
    /// The person's session key. The server has it not.
    pub person: PrivateKey,
    /// A key of the server's own.
    pub thief: PrivateKey,
    /// The pinned provider. The server has its keys not.
    pub issuer: Issuer,
    /// When everything begins.
    pub start: UnixTime,
}

impl Organization {
    /// The organization that a seed decides, at this time.
    ///
    /// # Errors
    /// When the seed gives no keys.
    pub fn new(seed: u64, start: UnixTime) -> Result<Self, KitError> {
        let mut dice = Dice::new(seed ^ 0x6f72_6761_6e69_7a65);
        let mut key = || PrivateKey::from_seed(&dice.bytes());
        let (root, grant, control, agent, agent_control) = (key()?, key()?, key()?, key()?, key()?);
        let (person, thief) = (key()?, key()?);
        let issuer = Issuer::new(dice.bytes(), "k1")?;
        Ok(Self {
            id: OrganizationId::from_bytes(dice.bytes()),
            target: TargetId::from_bytes(dice.bytes()),
            root,
            grant,
            control,
            agent,
            agent_control,
            person,
            thief,
            issuer,
            start,
        })
    }

    /// The pinned provider's row.
    #[must_use]
    pub fn provider(&self) -> Provider {
        Provider {
            kind: ProviderKind::Oidc,
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            organization: Some(OrganizationClaim { claim: "org".to_owned(), value: "acme".to_owned() }),
            organization_is_issuer: false,
            domains: vec!["example.com".to_owned()],
            commitment: Commitment::Nonce,
            workloads: vec![],
            groups_claim: None,
        }
    }

    /// What agent and client pin.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle {
            organization: self.id,
            roots: vec![self.root.public()],
            directory_key: None,
            service_accounts: vec![],
            providers: vec![self.provider()],
        }
    }

    /// What the provider publishes.
    ///
    /// # Errors
    /// When its key is none.
    pub fn jwks(&self) -> Result<Jwks, KitError> {
        self.issuer.jwks()
    }
}

impl std::fmt::Debug for Organization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Organization").field("id", &self.id).field("target", &self.target).finish_non_exhaustive()
    }
}

/// The connection of this number.
#[must_use]
pub const fn connection(number: u8) -> ConnectionId {
    ConnectionId::from_bytes([number; 16])
}
