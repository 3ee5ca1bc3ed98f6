//! How a client proves each call: a signature by its session key, so that no bearer secret exists.
//!
//! The header is `Authorization: Bz login="<id>", time="<ms>", random="<16 bytes>", signature="<64 bytes>"`, binary
//! parts in base64url. The signature covers login, method, path with query, SHA-256 of the body, time and random. A
//! server accepts a time within [`WINDOW`] and each random once in it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::digest::{Digest, Label};
use crate::id::LoginId;
use crate::key::{BadSignature, PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};
use crate::time::UnixTime;

/// How far a call's time may be from the server's.
pub const WINDOW: Duration = Duration::from_secs(120);

/// What a call is, as signed.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// Path and query, exactly as sent.
    pub target: &'a str,
    /// The body, exactly as sent.
    pub body: &'a [u8],
}

/// A proof as it stands in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The login.
    pub login: LoginId,
    /// When the call was made.
    pub time: UnixTime,
    /// Makes the call unique.
    pub random: [u8; 16],
    signature: Signature,
}

/// The header is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization header is no proof of this client's key")]
pub struct ParseProofError;

impl Proof {
    /// Signs a call.
    #[must_use]
    pub fn sign(login: LoginId, call: &Call<'_>, time: UnixTime, random: [u8; 16], key: &PrivateKey) -> Self {
        let signature = key.sign(Label::RestCall, &signed(login, call, time, &random));
        Self { login, time, random, signature }
    }

    /// Checks that this key signed this call.
    ///
    /// # Errors
    /// [`BadSignature`]. Time and random are the server's to check.
    pub fn verify(&self, call: &Call<'_>, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(Label::RestCall, &signed(self.login, call, self.time, &self.random), &self.signature)
    }

    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (random, signature) = (b64(&self.random), b64(self.signature.as_bytes()));
        format!(
            r#"Bz login="{}", time="{}", random="{random}", signature="{signature}""#,
            self.login,
            self.time.as_millis()
        )
    }

    /// Reads a header's value.
    ///
    /// # Errors
    /// [`ParseProofError`] for anything but what [`Self::to_header`] writes.
    pub fn parse(header: &str) -> Result<Self, ParseProofError> {
        let mut fields = header.strip_prefix("Bz ").ok_or(ParseProofError)?.split(", ");
        let mut field = |name: &str| {
            let value = fields.next()?.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')?;
            Some(value.to_owned())
        };
        let mut parse = || {
            let login = field("login")?.parse().ok()?;
            let time = UnixTime::from_millis(field("time")?.parse().ok()?);
            let random = URL_SAFE_NO_PAD.decode(field("random")?).ok()?.try_into().ok()?;
            let signature: [u8; SIGNATURE_BYTES] = URL_SAFE_NO_PAD.decode(field("signature")?).ok()?.try_into().ok()?;
            Some(Self { login, time, random, signature: Signature::from_bytes(signature) })
        };
        let proof = parse().ok_or(ParseProofError)?;
        if fields.next().is_none() { Ok(proof) } else { Err(ParseProofError) }
    }
}

fn signed(login: LoginId, call: &Call<'_>, time: UnixTime, random: &[u8; 16]) -> Vec<u8> {
    let body = Digest::of(call.body);
    let parts: [&[u8]; 6] = [
        login.as_bytes(),
        call.method.as_bytes(),
        call.target.as_bytes(),
        body.as_bytes(),
        &time.as_millis().to_be_bytes(),
        random,
    ];
    Digest::labelled(Label::RestCall, &parts).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_call_of_one_key() {
        let key = PrivateKey::from_seed(&[1; 32]).unwrap();
        let call = Call { method: "POST", target: "/api/v2/x?y=1", body: b"{}" };
        let login = LoginId::from_bytes([1; 16]);
        let proof = Proof::sign(login, &call, UnixTime::from_secs(5), [2; 16], &key);
        let read = Proof::parse(&proof.to_header()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(&call, &key.public()), Ok(()));
        for bad in
            [Call { method: "GET", ..call }, Call { target: "/api/v2/x?y=2", ..call }, Call { body: b"{ }", ..call }]
        {
            assert_eq!(read.verify(&bad, &key.public()), Err(BadSignature));
        }
        let other = PrivateKey::from_seed(&[2; 32]).unwrap().public();
        assert_eq!(read.verify(&call, &other), Err(BadSignature));
        let mut later = read;
        later.time = UnixTime::from_secs(6);
        assert_eq!(later.verify(&call, &key.public()), Err(BadSignature));
    }

    #[test]
    fn other_headers_are_no_proofs() {
        let key = PrivateKey::from_seed(&[1; 32]).unwrap();
        let call = Call { method: "GET", target: "/", body: b"" };
        let good = Proof::sign(LoginId::from_bytes([1; 16]), &call, UnixTime::from_secs(5), [2; 16], &key).to_header();
        for bad in [
            "Bearer x".to_owned(),
            String::new(),
            good.replace("login", "Login"),
            format!("{good}, x=\"1\""),
            good.replace("time=\"5000\"", "time=\"-1\""),
            good.replace("random=\"", "random=\"AA"),
        ] {
            assert_eq!(Proof::parse(&bad), Err(ParseProofError), "{bad}");
        }
    }
}
