//! The text of a key: 60 letters and digits that a scanner for leaks recognizes, and that a slip of the pen breaks.
//!
//! ```text
//! bzAccessKey | 43 random letters and digits | 6 of checksum
//! bzEnrollKey |  (256 bits)                  |  (CRC-32)
//! ```
//!
//! The checksum is CRC-32 (that of zlib) over all that stands before it, as six digits to the base 62, so that whoever
//! finds such a text knows without asking anybody whether it is one. It proves nothing. There is no character in it that
//! base64 does not have, and its length is one that base64 has: the original's clients take no other.

use std::fmt;

/// Digits to the base 62, in the order of ASCII.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// What an access key begins with.
pub const ACCESS: &str = "bzAccessKey";
/// What a registration key, or a token made of one, begins with.
pub const REGISTRATION: &str = "bzEnrollKey";
/// The length of every key.
pub const LENGTH: usize = 60;

const RANDOM: usize = 43;
const CHECKSUM: usize = 6;
/// Random bytes that are enough to make a key of, but for once in 10^20 times.
pub const SEED: usize = 96;

/// A key's text.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// The text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It does not look like one.
    #[error("not a key: it has 60 letters and digits, and begins with {ACCESS} or {REGISTRATION}")]
    Form,
    /// It looks like one, and a letter is wrong.
    #[error("the key's checksum is wrong: copy it again")]
    Checksum,
    /// Too few of the random bytes were of use.
    #[error("the random bytes do not make a key: try again")]
    Random,
}

impl KeyText {
    /// A key that is for registering, or for access, out of random bytes.
    ///
    /// # Errors
    /// [`KeyTextError::Random`], hardly ever.
    pub fn from_random(prefix: &'static str, random: &[u8; SEED]) -> Result<Self, KeyTextError> {
        // 248 is four times 62: each digit is as likely as any other.
        let fair = random.iter().filter(|byte| **byte < 248);
        let digits = fair.filter_map(|byte| DIGITS.get(usize::from(byte % 62))).map(|digit| char::from(*digit));
        let text: String = prefix.chars().chain(digits.take(RANDOM)).collect();
        if text.len() != LENGTH - CHECKSUM {
            return Err(KeyTextError::Random);
        }
        let checksum = checksum(&text);
        Ok(Self(text + &checksum))
    }

    /// The key that stands here.
    ///
    /// # Errors
    /// [`KeyTextError`].
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let plain = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain || ![ACCESS, REGISTRATION].iter().any(|prefix| text.starts_with(prefix)) {
            return Err(KeyTextError::Form);
        }
        match text.split_at_checked(LENGTH - CHECKSUM) {
            Some((before, sum)) if checksum(before) == sum => Ok(Self(text.to_owned())),
            _ => Err(KeyTextError::Checksum),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

impl Drop for KeyText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

fn checksum(text: &str) -> String {
    let mut left = u64::from(crc32(text.as_bytes()));
    let mut digits = [b'0'; CHECKSUM];
    for place in digits.iter_mut().rev() {
        *place = usize::try_from(left % 62).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0');
        left /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// ISO-HDLC, bit by bit: keys are short.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_key_is_recognized_and_a_slip_breaks_it() {
        let random = std::array::from_fn(|at| u8::try_from(at * 5 % 256).unwrap());
        for prefix in [ACCESS, REGISTRATION] {
            let key = KeyText::from_random(prefix, &random).unwrap();
            let text = key.as_str();
            assert!(text.len() == LENGTH && text.starts_with(prefix), "{text}");
            assert_eq!(KeyText::parse(text), Ok(key.clone()));
            assert!(STANDARD.decode(text).is_ok(), "the original's clients take base64 alone");
            for at in 0..LENGTH {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
                assert!(KeyText::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "letter {at}");
            }
            for bad in [&text[1..], &format!("{text}0"), &text.to_lowercase(), &format!(" {text}")] {
                assert_eq!(KeyText::parse(bad), Err(KeyTextError::Form), "{bad}");
            }
            assert_eq!(format!("{key:?}"), "KeyText");
        }
    }

    #[test]
    fn bytes_that_are_no_use_make_no_key() {
        assert_eq!(KeyText::from_random(ACCESS, &[255; SEED]), Err(KeyTextError::Random));
    }
}
