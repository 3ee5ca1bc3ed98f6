//! One-time passwords that change with time (RFC 6238 with HMAC-SHA-1, 30 seconds and six digits): what every
//! authenticator app knows.
//!
//! Absent: that a code is taken once, which needs a memory; whoever checks keeps the step that [`TotpSecret::check`] gives.

use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

use crate::time::UnixTime;

/// How long one code is shown, in seconds.
pub const STEP_SECONDS: u64 = 30;
/// How many digits a code has.
pub const DIGITS: usize = 6;
/// By how many steps the app's clock may differ.
pub const DRIFT: u64 = 1;
/// The bytes of a secret: what RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;

/// What an authenticator app and its other end share.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret(Zeroizing<[u8; SECRET_BYTES]>);

/// The text is no secret of this length in base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no secret of an authenticator app: 32 letters and digits of base 32")]
pub struct ParseSecretError;

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret")
    }
}

impl TotpSecret {
    /// The secret of these random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// As apps take it when it is typed.
    #[must_use]
    pub fn to_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(self.0.as_slice()))
    }

    /// The address that apps read from a QR code.
    #[must_use]
    pub fn to_url(&self, organization: &str, account: &str) -> Zeroizing<String> {
        let encoded = |text: &str| {
            // Apps cut the label at a colon, and read a plus as a plus.
            let text = text.replace(':', " ");
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
        };
        let (issuer, account, secret) = (encoded(organization), encoded(account), self.to_base32());
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.as_str()
        ))
    }

    /// The secret in such an address.
    ///
    /// # Errors
    /// [`ParseSecretError`].
    pub fn from_url(url: &str) -> Result<Self, ParseSecretError> {
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "otpauth").ok_or(ParseSecretError)?;
        let secret = url.query_pairs().find(|(name, _)| name == "secret").ok_or(ParseSecretError)?;
        secret.1.parse()
    }

    /// The code of a step.
    #[must_use]
    pub fn code(&self, step: u64) -> String {
        let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_slice()), &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
        let four: [u8; 4] = tag.get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
        format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
    }

    /// The step of a code that is good now, of steps after `used`; `None` for every other code.
    #[must_use]
    pub fn check(&self, code: &str, now: UnixTime, used: u64) -> Option<u64> {
        let present = step(now);
        let steps = present.saturating_sub(DRIFT)..=present.saturating_add(DRIFT);
        // Each is compared, so that the time says nothing of which.
        let good = steps.filter(|step| self.code(*step).as_bytes().ct_eq(code.as_bytes()).into());
        good.fold(None, |_, step| Some(step)).filter(|step| *step > used)
    }
}

impl FromStr for TotpSecret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, ParseSecretError> {
        let symbols: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).collect();
        let symbols = Zeroizing::new(symbols.to_ascii_uppercase());
        let decoded = BASE32_NOPAD.decode(symbols.as_bytes()).map(Zeroizing::new).map_err(|_| ParseSecretError)?;
        let bytes = Zeroizing::new(decoded.as_slice().try_into().map_err(|_| ParseSecretError)?);
        Ok(Self(bytes))
    }
}

/// The step of a time.
#[must_use]
pub const fn step(now: UnixTime) -> u64 {
    now.as_secs() / STEP_SECONDS
}

/// Base 32 (RFC 4648), without padding.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 20] = b"12345678901234567890";

    /// RFC 6238, appendix B, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = TotpSecret::from_bytes(*SECRET);
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(secret.code(step(UnixTime::from_secs(seconds))), code, "at {seconds}");
        }
    }

    /// F-048: a code is good for its step and the ones beside it, and never again.
    #[test]
    fn a_code_is_good_for_a_step_of_drift_and_once() {
        let secret = TotpSecret::from_bytes(*SECRET);
        let at = |step: u64| UnixTime::from_secs(step * STEP_SECONDS + 7);
        let code = secret.code(100);
        for (now, used, want) in [
            (100, 0, Some(100)),
            (99, 0, Some(100)),
            (101, 0, Some(100)),
            (98, 0, None),
            (102, 0, None),
            (100, 99, Some(100)),
            (100, 100, None),
            (101, 101, None),
        ] {
            assert_eq!(secret.check(&code, at(now), used), want, "at {now}, used {used}");
        }
        for bad in ["", "000000", "1", &format!("{code} "), &format!("0{code}")] {
            assert_eq!(secret.check(bad, at(100), 0), None, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_survives_its_texts() {
        let secret = TotpSecret::from_bytes(*SECRET);
        assert_eq!(secret.to_base32().as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!("gezd gnbv gy3t qojq gezd gnbv gy3t qojq".parse(), Ok(secret.clone()));
        let url = secret.to_url("Müller & Co: x", "alice@example.com");
        assert!(
            url.starts_with("otpauth://totp/M%C3%BCller%20%26%20Co%20%20x:alice%40example.com?secret=GEZ"),
            "{url:?}"
        );
        assert_eq!(TotpSecret::from_url(&url), Ok(secret));
        for bad in ["", "GEZDGNBV", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBV"] {
            assert_eq!(bad.parse::<TotpSecret>(), Err(ParseSecretError), "{bad}");
        }
        assert!(!format!("{:?}", TotpSecret::from_bytes(*SECRET)).contains("49"));
    }
}
