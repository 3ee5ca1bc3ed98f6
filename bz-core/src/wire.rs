//! The one binary encoding: bincode, fixed-width integers, big-endian, bounded.
//!
//! Fixed width because the variable form has several encodings of one value. Every decode consumes all bytes and every
//! size is checked before anything is allocated, in both directions. Signed and hashed are always the received bytes,
//! never a re-encoding; see [`crate::signed`].

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::{Decode, Encode};

/// The most bytes any one object may have; each object has a smaller bound of its own.
pub const MAX_OBJECT: usize = 1 << 20;

/// Why bytes were not encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Larger than this kind of object may be.
    #[error("too large: at most {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// Not an encoding of this kind of object.
    #[error("malformed")]
    Malformed,
    /// Bytes follow the object.
    #[error("trailing bytes")]
    Trailing,
}

const CONFIG: Configuration<BigEndian, Fixint, Limit<MAX_OBJECT>> =
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<MAX_OBJECT>();

/// Encodes `value` into at most `limit` bytes.
///
/// # Errors
/// [`WireError::TooLarge`] when it would take more.
pub fn encode<T: Encode>(value: &T, limit: usize) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::encode_to_vec(value, CONFIG).map_err(|_| WireError::Malformed)?;
    if bytes.len() > limit.min(MAX_OBJECT) { Err(WireError::TooLarge { limit }) } else { Ok(bytes) }
}

/// Decodes exactly these bytes.
///
/// # Errors
/// [`WireError::TooLarge`] above `limit`, [`WireError::Malformed`] when they are no `T`, [`WireError::Trailing`] when
/// bytes are left.
pub fn decode<T: Decode<()>>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    if bytes.len() > limit.min(MAX_OBJECT) {
        return Err(WireError::TooLarge { limit });
    }
    let (value, read) = bincode::decode_from_slice(bytes, CONFIG).map_err(|_| WireError::Malformed)?;
    if read == bytes.len() { Ok(value) } else { Err(WireError::Trailing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Encode + Decode<()> + PartialEq + std::fmt::Debug>(
        bytes: &[u8],
        limit: usize,
        want: &Result<T, WireError>,
    ) {
        assert_eq!(&decode::<T>(bytes, limit), want, "{}", hex::encode(bytes));
    }

    /// PR-WIRE-1: one encoding per value, all bytes consumed, bounded before allocation.
    #[test]
    fn bytes_decode_exactly_or_not_at_all() {
        let one = encode(&(1u16, vec![7u8]), 64).unwrap();
        assert_eq!(hex::encode(&one), "0001000000000000000107");
        check(&one, 64, &Ok((1u16, vec![7u8])));
        check::<(u16, Vec<u8>)>(&one, one.len() - 1, &Err(WireError::TooLarge { limit: 10 }));
        check::<(u16, Vec<u8>)>(&[one.as_slice(), &[0]].concat(), 64, &Err(WireError::Trailing));
        check::<(u16, Vec<u8>)>(&one[..10], 64, &Err(WireError::Malformed));
        check::<bool>(&[2], 1, &Err(WireError::Malformed));
        check::<Option<u8>>(&[2, 0], 2, &Err(WireError::Malformed));
        check::<Vec<u8>>(&[0xff; 8], 64, &Err(WireError::Malformed));
        check::<Vec<u64>>(&(MAX_OBJECT as u64).to_be_bytes(), 64, &Err(WireError::Malformed));
        check::<String>(&[0, 0, 0, 0, 0, 0, 0, 1, 0xff], 64, &Err(WireError::Malformed));
    }

    #[test]
    fn encoding_is_bounded_too() {
        assert_eq!(encode(&vec![0u8; 64], 71), Err(WireError::TooLarge { limit: 71 }));
        assert_eq!(encode(&vec![0u8; 64], 72).map(|b| b.len()), Ok(72));
    }

    proptest::proptest! {
        #[test]
        fn whatever_decodes_has_one_encoding(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            if let Ok(value) = decode::<(u16, Option<String>, Vec<(bool, u32)>)>(&bytes, 64) {
                proptest::prop_assert_eq!(encode(&value, 64).unwrap(), bytes);
            }
        }
    }
}
