//! Packets of MySQL's protocol: three bytes of length, a number, a body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::backend::database::upstream::Held;

/// The longest packet that is read whole: one of a login, or a change of user.
const LONGEST: usize = 128 << 10;
/// Bytes read at once.
const AT_ONCE: usize = 16 << 10;

/// A packet read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) number: u8,
    pub(super) body: Vec<u8>,
}

/// What a packet begins with.
pub(super) fn head(length: usize, number: u8) -> [u8; 4] {
    let [a, b, c, ..] = length.to_le_bytes();
    [a, b, c, number]
}

/// An error as the server would say it.
pub(super) fn error(number: u8, (code, state): (u16, &str), words: &str) -> Packet {
    let body = [&[0xff], code.to_le_bytes().as_slice(), b"#", state.as_bytes(), words.as_bytes()].concat();
    Packet { number, body }
}

/// A stream of packets. Reading is cancel-safe: what has come is kept.
#[derive(Debug)]
pub(super) struct Packets<S> {
    stream: S,
    /// What has come and is not taken.
    came: Vec<u8>,
}

impl<S> Packets<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, came: Vec::new() }
    }

    /// The same when this much has come already.
    pub(super) const fn with(stream: S, came: Vec<u8>) -> Self {
        Self { stream, came }
    }

    /// The stream, and what has come of it.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.came)
    }

    /// The stream, unless something has come of it.
    pub(super) fn into_inner(self) -> Option<S> {
        self.came.is_empty().then_some(self.stream)
    }

    /// Whether nothing has come that is not taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.came.is_empty()
    }
}

impl Packets<Held> {
    /// Both directions end in order.
    pub(super) const fn whole(&mut self) {
        self.stream.whole = true;
    }
}

impl<S: AsyncRead + Unpin> Packets<S> {
    /// The next packet, whole; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Packet>> {
        loop {
            if let Some((length, number)) = self.has_head() {
                if length > LONGEST {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is too long"));
                }
                let whole = length.saturating_add(4);
                if self.came.len() >= whole {
                    let body = self.came.drain(..whole).skip(4).collect();
                    return Ok(Some(Packet { number, body }));
                }
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// The length and number of the next packet, whose body is to be read then; `None` at the end.
    pub(super) async fn head(&mut self) -> io::Result<Option<(usize, u8)>> {
        loop {
            if let Some(head) = self.has_head() {
                self.came.drain(..4);
                return Ok(Some(head));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// The first byte of a body.
    pub(super) async fn peek(&mut self) -> io::Result<Option<u8>> {
        while self.came.is_empty() && self.more().await? {}
        Ok(self.came.first().copied())
    }

    /// A whole body.
    pub(super) async fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is too long"));
        }
        while self.came.len() < length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.came.drain(..length).collect())
    }

    /// Some of a body, at least a byte.
    pub(super) async fn some<'b>(&mut self, buffer: &'b mut [u8], most: usize) -> io::Result<&'b [u8]> {
        let most = most.min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        if self.came.is_empty() {
            let count = self.stream.read(room).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(room.get(..count).unwrap_or_default());
        }
        let count = most.min(self.came.len());
        let taken = room.get_mut(..count).unwrap_or_default();
        for (to, from) in taken.iter_mut().zip(self.came.drain(..count)) {
            *to = from;
        }
        Ok(taken)
    }

    fn has_head(&self) -> Option<(usize, u8)> {
        let [a, b, c, number] = *self.came.first_chunk()?;
        Some((usize::try_from(u32::from_le_bytes([a, b, c, 0])).ok()?, number))
    }

    /// Reads on; `false` at the end.
    async fn more(&mut self) -> io::Result<bool> {
        self.came.reserve(AT_ONCE);
        Ok(self.stream.read_buf(&mut self.came).await? > 0)
    }
}

impl<S: AsyncWrite + Unpin> Packets<S> {
    pub(super) async fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let head = head(packet.body.len(), packet.number);
        self.stream.write_all(&[head.as_slice(), &packet.body].concat()).await?;
        self.stream.flush().await
    }
}
