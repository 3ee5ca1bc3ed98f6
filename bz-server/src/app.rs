//! The parts of a running server, together: what handlers and the relay are given.
//!
//! Absent: sockets. A test drives an `App` without any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bz_core::cert::VerifiedInitial;
use bz_core::id::{LoginId, OrganizationId};
use bz_core::key::{PrivateKey, PublicKey};
use bz_core::oidc::provider::Provider;
use bz_core::time::{Now, UnixTime};
use bz_core::trust::TrustBundle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acme;
use crate::api::event::stream::MOST_STREAMS;
use crate::artifacts::Artifacts;
use crate::auth::hash::KeyHasher;
use crate::auth::key::Uses;
use crate::auth::limit::{Guesses, Limit};
use crate::auth::replay::Replay;
use crate::config::{Config, Live, Tls};
use crate::groups::source::SourceError;
use crate::groups::{COUNTS, Groups};
use crate::keys::{self, Certifier, KeysError, OnlineKeys};
use crate::metrics::Metrics;
use crate::mfa::Vault;
use crate::page::Pages;
use crate::policy::engine::EngineError;
use crate::policy::{Engine, Index};
use crate::record::{Records, TokenKey};
use crate::seam::directory::access::World;
use crate::seam::jwks::{JwksCache, JwksSource};
use crate::seam::links::Links;
use crate::seam::{Clock, Entropy, EntropyError, random};
use crate::store::operation::Done;
use crate::store::{Store, StoreError};
use crate::tls::{Certificates, TlsError};

/// The seams to the world.
#[derive(Clone)]
pub struct Seams {
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Issuers' keys.
    pub jwks: Arc<dyn JwksSource>,
    /// Live links.
    pub links: Arc<dyn Links>,
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// `init` did not run here.
    #[error("{0} holds no organization: run `bz-server init` first")]
    NotInitialized(std::path::PathBuf),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The rules.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operating system.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The directories of groups.
    #[error(transparent)]
    Groups(#[from] SourceError),
}

/// The most verified logins kept for refreshes after the issuer changed its keys.
const MOST_INITIALS: usize = 4096;

/// The parts.
pub struct App {
    /// The settings.
    config: Live,
    /// The certificate that listeners show, where there is TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// The organization.
    pub organization: OrganizationId,
    /// Everything that outlives the process.
    pub store: Store,
    /// The rules.
    pub engine: Engine,
    /// Issuers' keys, cached.
    pub jwks: JwksCache,
    /// Live links.
    pub links: Arc<dyn Links>,
    /// Directories of identity providers.
    pub groups: Groups,
    /// What passed the relay.
    pub records: Records,
    /// What is counted.
    pub metrics: Metrics,
    /// Running calls: each is finished and logged, also when its client hangs up.
    pub calls: TaskTracker,
    /// Opens the secrets of second factors.
    pub(crate) vault: Arc<Vault>,
    /// Hashes secrets of API keys.
    pub(crate) key_hasher: Arc<KeyHasher>,
    /// When API keys were used lately.
    pub(crate) key_uses: Mutex<Uses>,
    /// The agents' programs that the server gives.
    pub(crate) artifacts: Artifacts,
    /// Told when the server stops: what would go on for ever ends.
    pub stopping: CancellationToken,
    /// Places for readers of logs as they grow.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) replay: Mutex<Replay>,
    pub(crate) limit: Mutex<Limit>,
    pub(crate) pages: Mutex<Pages>,
    pub(crate) guesses: Mutex<Guesses>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    root: PrivateKey,
    online: Mutex<Arc<OnlineKeys>>,
    initials: Mutex<BTreeMap<LoginId, VerifiedInitial>>,
    policies: Mutex<Arc<Index>>,
    /// Which request for new online keys was served.
    pub(crate) rotated: Mutex<Option<UnixTime>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("organization", &self.organization).finish_non_exhaustive()
    }
}

impl App {
    /// Opens store and keys in the data folder.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn open(config: Config, seams: Seams) -> Result<Self, AppError> {
        keys::private_folder(&config.data)?;
        let root = keys::read_root(&config.data)?;
        let store = Store::open(&config.data)?;
        let organization = store.organization().await?.ok_or_else(|| AppError::NotInitialized(config.data.clone()))?.id;
        let mfa_key = keys::secret_key(&config.data, keys::MFA, &random(seams.entropy.as_ref())?)?;
        let vault =
            Vault::new(&mfa_key).map_err(|error| KeysError::File { path: config.data.join(keys::MFA), error })?;
        let token_key = keys::secret_key(&config.data, keys::TOKENS, &random(seams.entropy.as_ref())?)?;
        let token_key = TokenKey::new(&token_key)
            .map_err(|error| KeysError::File { path: config.data.join(keys::TOKENS), error })?;
        let key_hasher = key_hasher(&config, &store, seams.entropy.as_ref()).await?;
        let metrics = Metrics::new();
        let certificates = match &config.tls {
            Tls::Off(_) => None,
            Tls::Files(files) => Some(Certificates::read(files)?),
            Tls::Acme(_) => Some(Certificates::awaited(&acme::files(&config.data))),
        };
        let rotated = store.last_done(Done::Rotation).await?;
        let now = seams.clock.now().wall;
        let online = certify(&config, (&root, organization), seams.entropy.as_ref(), now)?;
        let world = |client| World { client, clock: Arc::clone(&seams.clock), entropy: Arc::clone(&seams.entropy) };
        let groups = Groups::open(&config, world)?;
        forget_memberships(&store, (&config, &groups), now).await?;
        Ok(Self {
            engine: Engine::new()?,
            groups,
            jwks: JwksCache::new(seams.jwks).counting(metrics.provider_failures.clone()),
            links: seams.links,
            records: Records::new(&config.data, token_key),
            metrics,
            vault: Arc::new(vault),
            key_hasher,
            key_uses: Mutex::default(),
            artifacts: Artifacts::new(&config.data),
            calls: TaskTracker::new(),
            stopping: CancellationToken::new(),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
            replay: Mutex::new(Replay::default()),
            limit: Mutex::default(),
            pages: Mutex::default(),
            guesses: Mutex::default(),
            clock: seams.clock,
            entropy: seams.entropy,
            online: Mutex::new(Arc::new(online)),
            initials: Mutex::default(),
            policies: Mutex::default(),
            rotated: Mutex::new(rotated),
            certificates,
            config: Live::new(config),
            organization,
            store,
            root,
        })
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The clocks themselves, for what waits by them.
    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn random<const N: usize>(&self) -> Result<[u8; N], EntropyError> {
        random(self.entropy.as_ref())
    }

    /// The settings as they are now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.now()
    }

    /// Takes other settings from now on.
    pub(crate) fn exchange_config(&self, config: Config) {
        self.config.exchange(config);
    }

    /// What agents and clients pin.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        bundle(&self.config(), self.organization, &self.root)
    }

    /// The root that certifies the online keys.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.root.public()
    }

    /// The online keys; new ones when half of their life is over.
    ///
    /// # Errors
    /// [`KeysError`], or [`EntropyError`] as one.
    pub fn online_keys(&self) -> Result<Arc<OnlineKeys>, AppError> {
        let now = self.now().wall;
        let mut online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
        if online.is_stale(now) {
            *online = Arc::new(certify(&self.config(), (&self.root, self.organization), self.entropy.as_ref(), now)?);
        }
        Ok(Arc::clone(&online))
    }

    /// All policies, as the store has them now; read anew after a change alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn policies(&self) -> Result<Arc<Index>, StoreError> {
        let known = Arc::clone(&self.policies.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(changed) = self.store.policies_unless(known.version()).await? else { return Ok(known) };
        let index = Arc::new(Index::of(changed));
        let mut kept = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.version() < index.version() {
            *kept = Arc::clone(&index);
        }
        Ok(index)
    }

    /// New online keys now, whatever the old ones' age: those sign nothing more, and what they signed stays good.
    ///
    /// # Errors
    /// As [`Self::online_keys`].
    pub(crate) fn rotate_online_keys(&self) -> Result<Arc<OnlineKeys>, AppError> {
        let now = self.now().wall;
        let keys = Arc::new(certify(&self.config(), (&self.root, self.organization), self.entropy.as_ref(), now)?);
        *self.online.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
        Ok(keys)
    }

    /// The initial token of this login as verified before, so that it stays good when its key is withdrawn.
    pub(crate) fn initial(&self, login: LoginId) -> Option<VerifiedInitial> {
        self.initials.lock().unwrap_or_else(PoisonError::into_inner).get(&login).cloned()
    }

    pub(crate) fn keep_initial(&self, login: LoginId, initial: VerifiedInitial) {
        let mut kept = self.initials.lock().unwrap_or_else(PoisonError::into_inner);
        // Any may go: the worst is a login again after the issuer changed its keys.
        if kept.len() >= MOST_INITIALS {
            kept.pop_first();
        }
        kept.insert(login, initial);
    }
}

/// What keys are found by. Hashes of an earlier kind become such.
async fn key_hasher(config: &Config, store: &Store, entropy: &dyn Entropy) -> Result<Arc<KeyHasher>, AppError> {
    let key = keys::secret_key(&config.data, keys::API_KEYS, &random(entropy)?)?;
    let hasher = Arc::new(KeyHasher::new(&key));
    let old = Arc::clone(&hasher);
    store.key_old_hashes(move |plain| old.keyed(plain)).await?;
    Ok(hasher)
}

/// What directories said at another time or of another place counts from the first call on no more.
async fn forget_memberships(
    store: &Store,
    (config, groups): (&Config, &Groups),
    now: UnixTime,
) -> Result<(), AppError> {
    let known = |provider: &&Provider| groups.has(&provider.issuer) && provider.kind.row().directory == "sub";
    let by_subject = config.providers.iter().filter(known).map(|provider| provider.issuer.clone()).collect();
    store.directories_are(groups.issuers().cloned().collect(), by_subject).await?;
    store.drop_memberships(now.before(COUNTS)).await?;
    Ok(())
}

/// The bundle of these settings and this root.
#[must_use]
pub fn bundle(config: &Config, organization: OrganizationId, root: &PrivateKey) -> TrustBundle {
    TrustBundle {
        organization,
        roots: vec![root.public()],
        directory_key: None,
        service_accounts: config.service_accounts.clone(),
        providers: config.providers.clone(),
    }
}

fn certify(
    config: &Config,
    (root, organization): (&PrivateKey, OrganizationId),
    entropy: &dyn Entropy,
    now: UnixTime,
) -> Result<OnlineKeys, AppError> {
    let seeds = [random(entropy)?, random(entropy)?, random(entropy)?];
    Ok(OnlineKeys::certify(Certifier { root, organization, node: &config.node, now }, &seeds)?)
}
