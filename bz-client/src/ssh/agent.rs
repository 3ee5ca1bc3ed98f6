//! The `ssh-agent` that one `ssh` meets once: it has one key, and signs one login with it.
//!
//! What it signs must be a login as the session's user, with the session's certificate, and to a host with one of the
//! session's keys where `ssh` says which (OpenSSH from 8.9 on does). So a person who forwards this agent to a host lends
//! nothing to it.

use std::sync::atomic::{AtomicBool, Ordering};

use bz_core::ssh::HostKey;
use bz_core::ssh::wire::{Malformed, Reader, Writer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::ssh::Credential;

/// Far above what `ssh` asks.
const MAX_MESSAGE: u32 = 16 << 10;
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGNATURE: u8 = 14;
/// RFC 4252: the message that asks to be let in.
const USERAUTH_REQUEST: u8 = 50;

/// One session's key, as `ssh` asks for it.
#[derive(Debug)]
pub struct OneLogin<'a> {
    credential: &'a Credential,
    host_keys: &'a [HostKey],
    offered: AtomicBool,
    signed: AtomicBool,
}

/// What to say, and whether that was the login.
struct Answer {
    message: Vec<u8>,
    signed: bool,
}

impl<'a> OneLogin<'a> {
    /// For this session.
    #[must_use]
    pub const fn new(credential: &'a Credential, host_keys: &'a [HostKey]) -> Self {
        Self { credential, host_keys, offered: AtomicBool::new(false), signed: AtomicBool::new(false) }
    }

    /// Whether `ssh` had the key and never came back for a signature: the host does not take it.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        self.offered.load(Ordering::Relaxed) && !self.signed.load(Ordering::Relaxed)
    }

    /// Answers one `ssh` until it has its signature or goes; whether it has it.
    ///
    /// # Errors
    /// When the socket breaks, or what comes is no question.
    pub async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<bool> {
        loop {
            let length = match stream.read_u32().await {
                Ok(length @ 1..=MAX_MESSAGE) => length,
                Ok(_) => return Err(std::io::Error::other("a message of no length")),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            };
            let mut message = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
            stream.read_exact(&mut message).await?;
            let answer = self.answer(&message);
            stream.write_all(&Writer::default().string(&answer.message).finish()).await?;
            if answer.signed {
                return Ok(true);
            }
        }
    }

    fn answer(&self, message: &[u8]) -> Answer {
        let certificate = &self.credential.certificate;
        match message.split_first() {
            Some((&REQUEST_IDENTITIES, [])) => {
                self.offered.store(true, Ordering::Relaxed);
                let message = Writer::default().u8(IDENTITIES).u32(1).string(certificate).text("bz").finish();
                Answer { message, signed: false }
            }
            Some((&SIGN_REQUEST, rest)) => match self.to_sign(rest) {
                Ok(bytes) => {
                    self.signed.store(true, Ordering::Relaxed);
                    let signature = self.credential.key.sign(bytes);
                    Answer { message: Writer::default().u8(SIGNATURE).string(&signature).finish(), signed: true }
                }
                Err(Malformed) => Answer { message: vec![FAILURE], signed: false },
            },
            // Extensions, too: `ssh` does without.
            _ => Answer { message: vec![FAILURE], signed: false },
        }
    }

    /// The bytes to sign, if they are this session's login and nothing else.
    fn to_sign<'b>(&self, request: &'b [u8]) -> Result<&'b [u8], Malformed> {
        let mut request = Reader::new(request);
        let certificate = self.credential.certificate.as_slice();
        is(request.string()? == certificate)?;
        let bytes = request.string()?;
        // Flags choose among the hashes of RSA.
        request.u32()?;
        request.end()?;

        let mut login = Reader::new(bytes);
        // The id of the SSH session: only its two ends know it.
        login.string()?;
        is(login.u8()? == USERAUTH_REQUEST)?;
        is(login.string()? == self.credential.user.as_str().as_bytes())?;
        is(login.string()? == b"ssh-connection")?;
        let method = login.string()?;
        is(login.u8()? == 1)?;
        // The algorithm, which the certificate names too.
        login.string()?;
        is(login.string()? == certificate)?;
        if method == b"publickey-hostbound-v00@openssh.com" {
            let host = login.string()?;
            is(self.host_keys.iter().any(|key| key.blob() == host))?;
        } else {
            is(method == b"publickey")?;
        }
        login.end()?;
        Ok(bytes)
    }
}

const fn is(holds: bool) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use bz_core::ssh::SshKey;

    use super::*;

    struct Stage {
        credential: Credential,
        host: HostKey,
    }

    fn stage() -> Stage {
        let key = SshKey::from_seed(&[1; 32]).unwrap();
        let host = SshKey::from_seed(&[2; 32]).unwrap().public();
        let user = "alice".parse().unwrap();
        let credential = Credential { key, certificate: b"a certificate".to_vec(), user };
        Stage { credential, host: HostKey::from_blob(host.blob()).unwrap() }
    }

    fn login(user: &str, method: &str, certificate: &[u8]) -> Writer {
        Writer::default()
            .string(&[9; 32])
            .u8(USERAUTH_REQUEST)
            .text(user)
            .text("ssh-connection")
            .text(method)
            .u8(1)
            .text("ecdsa-sha2-nistp256-cert-v01@openssh.com")
            .string(certificate)
    }

    fn check(stage: &Stage, certificate: &[u8], login: Writer, signs: bool) {
        let agent = OneLogin::new(&stage.credential, std::slice::from_ref(&stage.host));
        let login = login.finish();
        let request = Writer::default().u8(SIGN_REQUEST).string(certificate).string(&login).u32(0).finish();
        let answer = agent.answer(&request);
        assert_eq!((answer.signed, answer.message[0] == SIGNATURE), (signs, signs), "{login:?}");
    }

    #[test]
    fn it_signs_the_sessions_login_and_nothing_else() {
        let stage = stage();
        let ours = stage.credential.certificate.clone();
        let (plain, bound) = ("publickey", "publickey-hostbound-v00@openssh.com");
        check(&stage, &ours, login("alice", plain, &ours), true);
        check(&stage, &ours, login("alice", bound, &ours).string(stage.host.blob()), true);
        let other = SshKey::from_seed(&[3; 32]).unwrap().public();
        check(&stage, &ours, login("alice", bound, &ours).string(other.blob()), false);
        check(&stage, &ours, login("alice", bound, &ours), false);
        check(&stage, &ours, login("root", plain, &ours), false);
        check(&stage, &ours, login("alice", "hostbased", &ours), false);
        check(&stage, &ours, login("alice", plain, b"another"), false);
        check(&stage, b"another", login("alice", plain, &ours), false);
        check(&stage, &ours, login("alice", plain, &ours).u8(0), false);
        check(&stage, &ours, Writer::default().text("SSHSIG"), false);
        check(&stage, &ours, Writer::default(), false);
    }

    #[tokio::test]
    async fn it_lists_one_key_and_goes_after_its_signature() {
        let stage = stage();
        let certificate = stage.credential.certificate.clone();
        let login = login("alice", "publickey", &certificate).finish();
        let sign = Writer::default().u8(SIGN_REQUEST).string(&certificate).string(&login).u32(0).finish();
        let (mut ssh, socket) = tokio::io::duplex(1 << 16);
        let asks = async {
            // An extension first, as `ssh` does.
            for message in [&[27, 0][..], &[REQUEST_IDENTITIES], &sign] {
                ssh.write_all(&Writer::default().string(message).finish()).await.unwrap();
            }
            let mut said = Vec::new();
            ssh.read_to_end(&mut said).await.unwrap();
            said
        };
        let serve = async {
            let agent = OneLogin::new(&stage.credential, std::slice::from_ref(&stage.host));
            agent.serve(socket).await
        };
        let (said, served) = tokio::join!(asks, serve);
        assert!(served.unwrap(), "it was asked for the login");
        let mut reader = Reader::new(&said);
        assert_eq!(reader.string(), Ok(&[FAILURE][..]));
        let listed = Writer::default().u8(IDENTITIES).u32(1).string(&certificate).text("bz").finish();
        assert_eq!(reader.string(), Ok(&listed[..]));
        assert_eq!(reader.string().unwrap()[0], SIGNATURE);
        assert_eq!(reader.end(), Ok(()));

        let (mut ssh, socket) = tokio::io::duplex(64);
        ssh.write_u32(MAX_MESSAGE + 1).await.unwrap();
        assert!(OneLogin::new(&stage.credential, &[]).serve(socket).await.is_err(), "bounded before it is stored");
    }
}
