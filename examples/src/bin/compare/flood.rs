//! Bytes through a tunnel: who sends them, who takes them, and the relay that does nothing but copy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const CHUNK: usize = 256 << 10;
const NAME: &str = "localhost";

/// Whoever connects gets so many bytes, and then the end.
pub(crate) async fn source(bytes: u64) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who leaves early has seen enough.
            tokio::spawn(async move { send(stream, bytes).await.unwrap_or_default() });
        }
    });
    Ok(address)
}

/// The same in TLS, behind a relay that copies what it reads: the least that any relay does. Its address, and how to speak
/// TLS through it.
pub(crate) async fn behind_null_relay(bytes: u64) -> Result<(SocketAddr, TlsConnector)> {
    let key = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let certificate: CertificateDer<'static> = key.cert.der().clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (listener, relay) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    let (behind, front) = (listener.local_addr()?, relay.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    send(stream, bytes).await.unwrap_or_default();
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(behind).await {
                    tokio::io::copy_bidirectional_with_sizes(&mut from, &mut to, CHUNK, CHUNK)
                        .await
                        .unwrap_or_default();
                }
            });
        }
    });
    Ok((front, TlsConnector::from(Arc::new(client))))
}

async fn send(mut stream: impl AsyncWrite + Unpin, bytes: u64) -> std::io::Result<()> {
    let block = vec![0x5a; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(block.get(..n).unwrap_or_default()).await?;
        left -= n as u64;
    }
    stream.shutdown().await
}

/// Takes all of them from a port of this machine.
pub(crate) async fn take(port: u16, bytes: u64) -> Result<()> {
    all(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?, bytes).await
}

/// The same in TLS.
pub(crate) async fn take_tls((address, tls): &(SocketAddr, TlsConnector), bytes: u64) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    all(tls.connect(ServerName::try_from(NAME)?, stream).await?, bytes).await
}

async fn all(mut stream: impl AsyncRead + Unpin, bytes: u64) -> Result<()> {
    let (mut buffer, mut got) = (vec![0; CHUNK], 0_u64);
    loop {
        match stream.read(&mut buffer).await.context("the tunnel broke")? {
            0 => break,
            n => got += n as u64,
        }
    }
    ensure!(got == bytes, "{got} of {bytes} bytes came");
    Ok(())
}
