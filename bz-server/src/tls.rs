//! TLS: the server's certificate from files, which may be an authority's by ACME, a CA of its own for first steps, and clients for identity providers.
//!
//! Everything names its provider (ring); nothing process-wide is installed or read.

mod validity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bz_core::digest::Digest;
use bz_core::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme;
use crate::config::TlsFiles;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or is no PEM.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key does not fit the certificate, or no root is usable.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The roots hold no certificate.
    #[error("the file of roots holds no certificate")]
    NoRoots,
    /// The HTTP client.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A chain of a CA that was made for it, as PEM.
#[derive(Debug)]
pub struct Made {
    /// The CA's certificate, for clients.
    pub ca: String,
    /// The chain for the server.
    pub chain: String,
    /// The server's key.
    pub key: String,
    /// SHA-256 of the CA's public key: what printed commands pin.
    pub pin: Digest,
}

/// Makes a CA and a certificate for these names, valid for five years. The CA's key is forgotten.
///
/// # Errors
/// [`TlsError::Make`].
pub fn make(organization: &str, names: Vec<String>, year: i16) -> Result<Made, TlsError> {
    let valid = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(i32::from(year) - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(i32::from(year) + 5, 1, 1);
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    valid(&mut ca);
    ca.distinguished_name.push(DnType::CommonName, format!("{organization} bz-server CA"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    let pin = Digest::of(&ca_key.subject_public_key_info());
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    valid(&mut params);
    params.distinguished_name.push(DnType::CommonName, "bz-server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer)?;
    let chain = format!("{}{}", certificate.pem(), ca_certificate.pem());
    Ok(Made { ca: ca_certificate.pem(), chain, key: key.serialize_pem(), pin })
}

/// The certificate that listeners show: from files, which are read again when they change.
#[derive(Debug)]
pub struct Certificates {
    files: Mutex<TlsFiles>,
    /// Nothing as long as an authority gave none.
    now: RwLock<Option<Shown>>,
    /// What an authority is shown that looks whether this server has a name; nothing where none ever looks.
    proofs: Option<RwLock<BTreeMap<String, Arc<CertifiedKey>>>>,
}

/// A certificate, and what its files were when it was read.
#[derive(Debug, Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    validity: Option<(UnixTime, UnixTime)>,
    seen: Seen,
}

/// The times of a chain's and a key's files, by which a change is noticed.
type Seen = [Option<SystemTime>; 2];

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]; also when key and certificate do not fit together.
    pub fn read(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { now: RwLock::new(Some(shown(files)?)), files: Mutex::new(files.clone()), proofs: None }))
    }

    /// Reads the files if an authority gave them already, and can prove names to it.
    #[must_use]
    pub fn awaited(files: &TlsFiles) -> Arc<Self> {
        let now = match shown(files) {
            Ok(shown) => Some(shown),
            Err(error) => {
                tracing::warn!(%error, "there is no certificate yet: TLS is refused until the authority gives one");
                None
            }
        };
        Arc::new(Self { now: RwLock::new(now), files: Mutex::new(files.clone()), proofs: Some(RwLock::default()) })
    }

    /// Reads these files from now on, and now.
    ///
    /// # Errors
    /// [`TlsError`]; then the certificate stays that was shown before.
    pub fn read_again(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let shown = shown(files)?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone_from(files);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(())
    }

    /// Reads the files again when they changed since; whether they did.
    ///
    /// # Errors
    /// [`TlsError`]; then the certificate stays that was shown before.
    pub fn follow(&self) -> Result<bool, TlsError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = self.shown().map_or([None; 2], |shown| shown.seen);
        if seen(&files) == before {
            return Ok(false);
        }
        self.read_again(&files).map(|()| true)
    }

    /// Until when the certificate is valid.
    #[must_use]
    pub fn ends(&self) -> Option<UnixTime> {
        self.validity().map(|(_, ends)| ends)
    }

    /// From when until when it is.
    #[must_use]
    pub fn validity(&self) -> Option<(UnixTime, UnixTime)> {
        self.shown()?.validity
    }

    /// Shows this to whoever looks whether the server has a name.
    pub(crate) fn prove(&self, name: &str, proof: CertifiedKey) {
        if let Some(proofs) = &self.proofs {
            proofs.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(proof));
        }
    }

    /// Shows no proofs any more.
    pub(crate) fn prove_nothing(&self) {
        if let Some(proofs) = &self.proofs {
            proofs.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn shown(&self) -> Option<Shown> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737, section 3: who asks for a proof asks for nothing else.
        if hello.alpn().is_some_and(|mut asked| asked.any(|protocol| protocol == acme::ALPN)) {
            let proofs = self.proofs.as_ref()?.read().unwrap_or_else(PoisonError::into_inner);
            return proofs.get(hello.server_name()?).cloned();
        }
        self.shown().map(|shown| shown.key)
    }
}

/// A certificate with the key that it was just made with: what is in it is not looked at.
pub(crate) fn certified(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(CertifiedKey::new(vec![certificate], provider().key_provider.load_private_key(key)?))
}

fn seen(files: &TlsFiles) -> Seen {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

fn shown(files: &TlsFiles) -> Result<Shown, TlsError> {
    // Before they are read: what is written meanwhile is a change.
    let seen = seen(files);
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unreadable(&files.key, &e))?;
    let validity = chain.first().and_then(|certificate| validity::validity(certificate));
    let key = Arc::new(CertifiedKey::from_der(chain, key, &provider())?);
    Ok(Shown { key, validity, seen })
}

/// Until when the certificate in these files is valid, if it says so.
///
/// # Errors
/// [`TlsError`]; also when key and certificate do not fit together.
pub fn ends(files: &TlsFiles) -> Result<Option<UnixTime>, TlsError> {
    Ok(shown(files)?.validity.map(|(_, ends)| ends))
}

/// What a listener needs: HTTP/2 and HTTP/1.1 under this certificate.
///
/// # Errors
/// [`TlsError`].
pub fn server(certificates: Arc<Certificates>) -> Result<rustls::ServerConfig, TlsError> {
    let proves = certificates.proofs.is_some();
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if proves {
        config.alpn_protocols.push(acme::ALPN.to_vec());
    }
    Ok(config)
}

/// A client without redirects that trusts the platform's roots, or only the given ones.
///
/// # Errors
/// [`TlsError`].
pub fn http_client(roots: Option<&[u8]>, timeout: Duration) -> Result<reqwest::Client, TlsError> {
    let mut config = client(roots)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    #[expect(clippy::disallowed_methods, reason = "the one constructor: it names its TLS provider")]
    let builder = reqwest::Client::builder();
    let client = builder
        .tls_backend_preconfigured(config)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .build()?;
    Ok(client)
}

/// TLS for what this server dials.
pub(crate) fn client(roots: Option<&[u8]>) -> Result<rustls::ClientConfig, TlsError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let Some(pem) = roots else {
        use rustls_platform_verifier::BuilderVerifierExt as _;
        return Ok(builder.with_platform_verifier()?.with_no_client_auth());
    };
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        store.add(root.map_err(|_| TlsError::NoRoots)?)?;
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, &e))?;
    read.collect::<Result<_, _>>().map_err(|e| unreadable(path, &e))
}

pub(crate) fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), why: error.to_string() }
}
