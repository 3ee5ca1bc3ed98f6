//! The session's keys: derived from one agreement and the whole handshake, one per direction and space, ratcheted by
//! number.
//!
//! *Inspected* frames carry their payload in clear under a tag only the two ends can make (AES-256-GCM with everything as
//! associated data); *sealed* ones encrypt it.

use bz_core::access::Mode;
use bz_core::digest::Digest;
use hkdf::Hkdf;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::FRAMES_PER_KEY;

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of a payload's salt.
pub const SALT_BYTES: usize = 16;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub enum Direction {
    /// From the client to the agent.
    ToAgent,
    /// From the agent to the client.
    ToClient,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::ToAgent => Self::ToClient,
            Self::ToClient => Self::ToAgent,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::ToAgent => "to agent",
            Self::ToClient => "to client",
        }
    }
}

/// The two number spaces of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Chained and retransmitted.
    Data,
    /// Acknowledgement and credit: sealed anew, never retransmitted.
    Control,
}

impl Space {
    const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Control => "control",
        }
    }
}

/// A tag that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame's tag does not verify")]
pub struct BadTag;

/// What the handshake leaves: the source of every key of one session.
pub(crate) struct Secrets {
    hkdf: Hkdf<Sha256>,
    mode: Mode,
}

impl Secrets {
    /// From the agreement's secret, salted with the session id, which covers `Syn` and `SynAck` whole.
    pub(crate) fn new(shared: &Zeroizing<[u8; 32]>, session: &Digest, mode: Mode) -> Self {
        Self { hkdf: Hkdf::new(Some(session.as_bytes()), shared.as_slice()), mode }
    }

    pub(crate) fn channel(&self, direction: Direction, space: Space) -> Channel {
        let secret = self.expand(&["channel", direction.name(), space.name()]);
        Channel {
            keys: Ratchet::new(secret),
            salts: self.expand(&["salt", direction.name(), space.name()]),
            mode: self.mode,
        }
    }

    /// The key that proves `Resume` messages, in both directions (the messages differ by label).
    pub(crate) fn resume(&self) -> ring::hmac::Key {
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.expand(&["resume"]).as_slice())
    }

    fn expand(&self, names: &[&str]) -> Zeroizing<[u8; 32]> {
        let info = format!("bz/1 {} {}", self.mode, names.join(", "));
        expand(&self.hkdf, info.as_bytes())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// One direction of one space: makes or checks tags for rising numbers.
pub(crate) struct Channel {
    keys: Ratchet,
    salts: Zeroizing<[u8; 32]>,
    mode: Mode,
}

impl Channel {
    /// The salt of a payload's commitment.
    pub(crate) fn salt(&self, number: u64) -> [u8; SALT_BYTES] {
        let tag = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.salts.as_slice()),
            &number.to_be_bytes(),
        );
        let mut salt = [0; SALT_BYTES];
        for (to, from) in salt.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        salt
    }

    /// Appends the payload, given in parts, in clear or sealed, and the tag to `frame`, whose bytes so far are
    /// authenticated with it.
    pub(crate) fn seal(&mut self, number: u64, frame: &mut Vec<u8>, payload: &[&[u8]]) -> Result<(), BadTag> {
        let key = self.keys.at(number).ok_or(BadTag)?;
        let start = frame.len();
        frame.reserve_exact(payload.iter().map(|part| part.len()).sum::<usize>().saturating_add(TAG_BYTES));
        payload.iter().for_each(|part| frame.extend_from_slice(part));
        let tag = match self.mode {
            Mode::Inspected => key.seal_in_place_separate_tag(nonce(number), Aad::from(&*frame), &mut []),
            Mode::Sealed => {
                let (head, body) = frame.split_at_mut_checked(start).ok_or(BadTag)?;
                key.seal_in_place_separate_tag(nonce(number), Aad::from(&*head), body)
            }
        };
        frame.extend_from_slice(tag.map_err(|_| BadTag)?.as_ref());
        Ok(())
    }

    /// The payload after the first `start` bytes of `frame`, when the tag at its end verifies.
    pub(crate) fn open(&mut self, number: u64, frame: &[u8], start: usize) -> Result<Vec<u8>, BadTag> {
        let key = self.keys.at(number).ok_or(BadTag)?;
        let body_end = frame.len().checked_sub(TAG_BYTES).filter(|end| *end >= start).ok_or(BadTag)?;
        let (covered, tag) = frame.split_at_checked(body_end).ok_or(BadTag)?;
        match self.mode {
            Mode::Inspected => {
                let mut tag = tag.to_vec();
                key.open_in_place(nonce(number), Aad::from(covered), &mut tag).map_err(|_| BadTag)?;
                Ok(covered.get(start..).ok_or(BadTag)?.to_vec())
            }
            Mode::Sealed => {
                let (head, _) = covered.split_at_checked(start).ok_or(BadTag)?;
                let mut body = frame.get(start..).ok_or(BadTag)?.to_vec();
                let length = key.open_in_place(nonce(number), Aad::from(head), &mut body).map_err(|_| BadTag)?.len();
                body.truncate(length);
                Ok(body)
            }
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel(…)")
    }
}

/// Keys that follow one another; the one before is gone.
struct Ratchet {
    epoch: u64,
    secret: Zeroizing<[u8; 32]>,
    key: Option<LessSafeKey>,
}

impl Ratchet {
    fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let key = aead(&secret);
        Self { epoch: 0, secret, key }
    }

    /// The key for a number; `None` for a number whose key is gone or more than one key ahead.
    fn at(&mut self, number: u64) -> Option<&LessSafeKey> {
        let epoch = number / FRAMES_PER_KEY;
        if epoch == self.epoch.checked_add(1)? {
            self.secret = expand(&hkdf(&self.secret)?, b"bz/1 next");
            self.key = aead(&self.secret);
            self.epoch = epoch;
        }
        if epoch == self.epoch { self.key.as_ref() } else { None }
    }
}

fn hkdf(secret: &Zeroizing<[u8; 32]>) -> Option<Hkdf<Sha256>> {
    Hkdf::from_prk(secret.as_slice()).ok()
}

fn aead(secret: &Zeroizing<[u8; 32]>) -> Option<LessSafeKey> {
    let key = expand(&hkdf(secret)?, b"bz/1 aead");
    UnboundKey::new(&AES_256_GCM, key.as_slice()).ok().map(LessSafeKey::new)
}

fn expand(hkdf: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    // Thirty-two bytes are one block: HKDF-SHA256 gives up to 255.
    #[expect(clippy::expect_used, reason = "32 bytes are within HKDF's bound of 8160")]
    hkdf.expand(info, out.as_mut_slice()).expect("one block");
    out
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().skip(4).zip(number.to_be_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(mode: Mode, direction: Direction, space: Space) -> Channel {
        Secrets::new(&Zeroizing::new([1; 32]), &Digest::of(b"session"), mode).channel(direction, space)
    }

    fn sealed(number: u64) -> Vec<u8> {
        let mut frame = b"head".to_vec();
        channel(Mode::Sealed, Direction::ToAgent, Space::Data).seal(number, &mut frame, &[b"pay", b"load"]).unwrap();
        frame
    }

    /// PR-KEY-2: mode, direction, space and number are all part of the key or nonce.
    #[test]
    fn a_frame_opens_only_where_it_was_made_for() {
        for mode in [Mode::Inspected, Mode::Sealed] {
            let mut frame = b"head".to_vec();
            channel(mode, Direction::ToAgent, Space::Data).seal(7, &mut frame, &[b"payload"]).unwrap();
            assert_eq!(frame.windows(7).any(|w| w == b"payload"), mode == Mode::Inspected);
            let open = |m, d, s, n, f: &[u8]| channel(m, d, s).open(n, f, 4);
            let other = if mode == Mode::Sealed { Mode::Inspected } else { Mode::Sealed };
            assert_eq!(open(mode, Direction::ToAgent, Space::Data, 7, &frame), Ok(b"payload".to_vec()));
            assert_eq!(open(mode, Direction::ToAgent, Space::Data, 8, &frame), Err(BadTag));
            assert_eq!(open(mode, Direction::ToAgent, Space::Control, 7, &frame), Err(BadTag));
            assert_eq!(open(mode, Direction::ToClient, Space::Data, 7, &frame), Err(BadTag));
            assert_eq!(open(other, Direction::ToAgent, Space::Data, 7, &frame), Err(BadTag));
            for at in 0..frame.len() {
                let mut bad = frame.clone();
                bad[at] ^= 1;
                assert_eq!(open(mode, Direction::ToAgent, Space::Data, 7, &bad), Err(BadTag), "{mode} byte {at}");
            }
            assert_eq!(open(mode, Direction::ToAgent, Space::Data, 7, &frame[..10]), Err(BadTag));
        }
    }

    /// PR-KEY-3: the key changes every 2^20 numbers, forward only.
    #[test]
    fn keys_ratchet_forward() {
        let mut channel = channel(Mode::Sealed, Direction::ToAgent, Space::Data);
        assert_eq!(channel.open(0, &sealed(0), 4), Ok(b"payload".to_vec()));
        let mut next = b"head".to_vec();
        channel.seal(FRAMES_PER_KEY, &mut next, &[b"payload"]).unwrap();
        assert_ne!(next, sealed(0));
        assert_eq!(channel.open(0, &sealed(0), 4), Err(BadTag));
        assert_eq!(channel.open(3 * FRAMES_PER_KEY, &next, 4), Err(BadTag));
    }
}
