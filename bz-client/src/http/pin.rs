//! A certificate known by its key alone.
//!
//! A pin names either the key of the server's own certificate, which is then all that is asked of it (like DANE-EE),
//! or the key of an authority in the chain the server sends, which is then the only root (like DANE-TA).

use std::fmt;
use std::sync::Arc;

use bz_core::digest::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::server::SpkiPin;

#[derive(Debug)]
pub(super) struct PinVerifier {
    pins: Vec<SpkiPin>,
    provider: Arc<CryptoProvider>,
}

/// No pin fits; names the key that came, so that a person can compare.
struct OtherKey(Digest);

impl fmt::Debug for OtherKey {
    // The TLS library shows its errors' causes this way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OtherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's key is not the pinned one; its pin would be {}", self.0)
    }
}

impl std::error::Error for OtherKey {}

impl PinVerifier {
    pub(super) const fn new(pins: Vec<SpkiPin>, provider: Arc<CryptoProvider>) -> Self {
        Self { pins, provider }
    }

    fn is_pinned(&self, key: Digest) -> bool {
        self.pins.iter().any(|pin| pin.digest() == key)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = key_of(end_entity)?;
        if self.is_pinned(key) {
            return Ok(ServerCertVerified::assertion());
        }
        let mut roots = RootCertStore::empty();
        for authority in intermediates {
            if self.is_pinned(key_of(authority)?) {
                roots.add(authority.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            let other = OtherError(Arc::new(OtherKey(key)));
            return Err(Error::InvalidCertificate(CertificateError::Other(other)));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|e| Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<Digest, Error> {
    Ok(Digest::of(ParsedCertificate::try_from(certificate)?.subject_public_key_info().as_ref()))
}
