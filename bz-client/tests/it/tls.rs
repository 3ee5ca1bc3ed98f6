//! Whose certificate is believed: the system's authorities, a private one, or a pin, and no other.

use std::sync::Arc;

use bz_client::server::{Roots, Server, SpkiPin};
use bz_client::trust::Trust;
use bz_core::digest::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// TRUST-2, DESIGN 5: a private CA or a pinned key is as easy as a public authority, and nothing else passes.
#[tokio::test]
async fn a_certificate_is_believed_by_its_roots_alone() {
    let (authority, stranger) = (authority(), authority());
    let (leaf, address) = serve(&authority, "127.0.0.1").await;
    let other = pin(&KeyPair::generate().unwrap());
    check(&address, Roots::Pins(vec![leaf]), Ok(())).await;
    check(&address, Roots::Pins(vec![pin(authority.key())]), Ok(())).await;
    check(&address, Roots::Pins(vec![other, pin(authority.key())]), Ok(())).await;
    check(&address, Roots::Ca(authority.pem()), Ok(())).await;
    check(&address, Roots::Pins(vec![other]), Err(&format!("its pin would be {leaf}"))).await;
    check(&address, Roots::Pins(vec![pin(stranger.key())]), Err("is not the pinned one")).await;
    // A stranger may well bear the same name; only the signature tells.
    check(&address, Roots::Ca(stranger.pem()), Err("BadSignature")).await;
    check(&address, Roots::Platform, Err("UnknownIssuer")).await;
}

/// An authority's pin believes its certificates for the names in them; a leaf's pin is the key itself.
#[tokio::test]
async fn the_name_counts_under_an_authority_and_not_under_a_pinned_key() {
    let authority = authority();
    let (leaf, address) = serve(&authority, "elsewhere.example").await;
    check(&address, Roots::Pins(vec![pin(authority.key())]), Err("not valid for name")).await;
    check(&address, Roots::Ca(authority.pem()), Err("not valid for name")).await;
    check(&address, Roots::Pins(vec![leaf]), Ok(())).await;
}

/// A pinned authority that the server merely shows beside a certificate it never signed is no root for it.
#[tokio::test]
async fn a_shown_authority_must_have_signed() {
    let (authority, stranger) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate = params("127.0.0.1").signed_by(&key, &stranger).unwrap();
    let chain = vec![certificate.der().clone(), authority.der().clone()];
    let address = listen(chain, &key).await;
    check(&address, Roots::Pins(vec![pin(authority.key())]), Err("BadSignature")).await;
}

#[test]
fn pins_are_read_in_both_spellings() {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pin: SpkiPin = hex.parse().unwrap();
    assert_eq!(pin.to_string(), hex);
    assert_eq!("sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse(), Ok(pin));
    for bad in ["", "sha256//", "sha256//AAAA", &hex[1..], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="] {
        assert!(bad.parse::<SpkiPin>().is_err(), "{bad}");
    }
}

async fn check(address: &str, roots: Roots, want: Result<(), &str>) {
    let server = Server::new(address).unwrap().with_roots(roots.clone()).unwrap();
    // Whether the handshake passed is all that is asked; the answer is no trust bundle.
    let error = Trust::first_use(&server).await.expect_err("no bundle").to_string();
    match want {
        Ok(()) => assert!(error.contains("the server's answer is not understood"), "{roots:?}: {error}"),
        Err(words) => assert!(error.contains("cannot be reached") && error.contains(words), "{roots:?}: {error}"),
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "a private authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn pin(key: &KeyPair) -> SpkiPin {
    SpkiPin::new(Digest::of(&key.subject_public_key_info()))
}

async fn serve(authority: &Authority, name: &str) -> (SpkiPin, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name).signed_by(&key, authority).unwrap();
    let address = listen(vec![certificate.der().clone(), authority.der().clone()], &key).await;
    (pin(&key), address)
}

async fn listen(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let _request = stream.read(&mut [0; 4096]).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await?;
                stream.shutdown().await
            });
        }
    });
    address
}
