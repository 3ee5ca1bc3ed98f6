//! Frames between the agent and its own helpers: a big-endian `u32` length, then one message in
//! bincode's fixed-width big-endian form. Both ends are the same program, possibly of two versions;
//! nothing of this ever leaves the machine, and nothing is signed.

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::{Decode, Encode};
use std::io::{Read, Write};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One frame holds at most this, so that a confused peer cannot make the other one allocate more.
pub(crate) const LIMIT: usize = 1 << 20;

/// The largest run of bytes put into one message; leaves room for the fields beside it.
pub(crate) const CHUNK: usize = 64 << 10;

const PREFIX: usize = size_of::<u32>();

#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is over the limit")]
    TooLarge(usize),
    #[error("a frame does not hold one whole message")]
    Malformed,
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

const fn layout() -> Configuration<BigEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// A message as it goes over the stream, length included.
pub(crate) fn encode<T: Encode>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = bincode::encode_to_vec(message, layout()).map_err(|_| FrameError::Malformed)?;
    let length =
        u32::try_from(body.len()).ok().filter(|_| body.len() <= LIMIT).ok_or(FrameError::TooLarge(body.len()))?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}

fn decode<T: Decode<()>>(body: &[u8]) -> Result<T, FrameError> {
    match bincode::decode_from_slice(body, layout()) {
        Ok((message, used)) if used == body.len() => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

fn body_of(prefix: [u8; PREFIX]) -> Result<Vec<u8>, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > LIMIT { Err(FrameError::TooLarge(length)) } else { Ok(vec![0; length]) }
}

/// The next message, or `None` where the stream ends between two frames. Not cancel-safe.
pub(crate) async fn read<T: Decode<()>>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>, FrameError> {
    let mut prefix = [0; PREFIX];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[1..]).await.map_err(inside)?;
    let mut body = body_of(prefix)?;
    stream.read_exact(&mut body).await.map_err(inside)?;
    decode(&body).map(Some)
}

/// Not cancel-safe.
pub(crate) async fn write<T: Encode>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), FrameError> {
    Ok(stream.write_all(&encode(message)?).await?)
}

pub(crate) fn read_blocking<T: Decode<()>>(stream: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).map_err(inside)?;
    let mut body = body_of(prefix)?;
    stream.read_exact(&mut body).map_err(inside)?;
    decode(&body)
}

pub(crate) fn write_blocking<T: Encode>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    Ok(stream.write_all(&encode(message)?)?)
}

fn inside(error: std::io::Error) -> FrameError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof { FrameError::Truncated } else { FrameError::Io(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hostile or broken peer may send, and what is made of it.
    fn check(bytes: &[u8], expected: &str) {
        let got = match read_blocking::<(u16, Vec<u8>)>(&mut &*bytes) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "for {bytes:02x?}");
    }

    #[test]
    fn a_frame_is_exactly_one_message_within_the_limit() {
        check(&encode(&(7_u16, vec![1_u8, 2])).unwrap(), "(7, [1, 2])");
        check(b"\0\0\0\x0b\0\x07\0\0\0\0\0\0\0\0\xff", "a frame does not hold one whole message");
        check(b"\0\0\0\x0a\0\x07\xff\xff\xff\xff\0\0\0\0", "a frame does not hold one whole message");
        check(b"\0\x10\0\x01", "a frame of 1048577 bytes is over the limit");
        check(b"\0\0\0\x0a\0", "the stream ended inside a frame");
        check(b"\0\0", "the stream ended inside a frame");
        assert!(matches!(encode(&vec![0_u8; LIMIT]), Err(FrameError::Malformed | FrameError::TooLarge(_))));
    }
}
