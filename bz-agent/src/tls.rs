//! Whom the program believes: the system's authorities, and those named beside them.
//!
//! The server's own authority is believed about the server alone. About an identity provider it would make a stolen
//! server both roots of trust.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

/// Certificates in PEM, all of them whole.
pub(crate) fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.context("not certificates in PEM")?;
    ensure!(!all.is_empty(), "no certificate in it: expected -----BEGIN CERTIFICATE-----");
    Ok(all)
}

/// For talking to the host of `url`. Plain http, which only loopback may be spoken to with, needs no authority.
pub(crate) fn config(url: &str, extra: Option<&str>) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    if url.starts_with("http://") {
        let none = rustls::RootCertStore::empty();
        return Ok(Arc::new(versions.with_root_certificates(none).with_no_client_auth()));
    }
    let extra = extra.map(certificates).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, provider)
        .context("this system has no certificate authorities: install ca-certificates, or name one")?;
    Ok(Arc::new(versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()))
}
