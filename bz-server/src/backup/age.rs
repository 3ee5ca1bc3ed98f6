//! Encryption under a passphrase, in the format `age-encryption.org/v1`: 64 KiB pieces under `ChaCha20-Poly1305`, each
//! bound to its place and the last one marked, so that nothing can be changed, left out or cut off. The programs `age` and
//! `rage` read and write the same files.
//!
//! Only the passphrase, and no recipients' keys: who can write what a restore believes must know the secret, and a public
//! key is none.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

const VERSION: &str = "age-encryption.org/v1";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// Bytes of a piece before encryption.
const PIECE: usize = 64 << 10;
const TAG: usize = 16;
/// Lines of the head are shorter.
const MOST_LINE: usize = 200;
/// The least and most work that a new file asks for: a second of this machine, within these.
const WORK: std::ops::RangeInclusive<u8> = 14..=18;
/// The most work that a file may ask for: 1 GiB of memory.
const MOST_WORK: u8 = 20;

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// The passphrase does not fit.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// Not such a file.
    #[error("it is no backup: {0}")]
    Malformed(&'static str),
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Random bytes of one file.
pub(super) struct Random {
    pub(super) key: Zeroizing<[u8; 16]>,
    pub(super) salt: [u8; 16],
    pub(super) nonce: [u8; 16],
}

/// Encrypts what is written to it.
pub(super) struct Sealer<W> {
    out: W,
    key: LessSafeKey,
    piece: Vec<u8>,
    count: u64,
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(mut out: W, (passphrase, work): (&[u8], u8), random: &Random) -> Result<Self, AgeError> {
        let mut wrapped = random.key.to_vec();
        let key = wrapping_key(passphrase, &random.salt, work)?;
        key.seal_in_place_append_tag(nonce(0, false), Aad::empty(), &mut wrapped).map_err(|_| broken())?;
        let (salt, wrapped) = (STANDARD_NO_PAD.encode(random.salt), STANDARD_NO_PAD.encode(wrapped));
        let head = format!("{VERSION}\n-> scrypt {salt} {work}\n{wrapped}\n---");
        let tag = hmac::sign(&head_key(&random.key)?, head.as_bytes());
        out.write_all(format!("{head} {}\n", STANDARD_NO_PAD.encode(tag)).as_bytes())?;
        out.write_all(&random.nonce)?;
        let key = payload_key(&random.key, &random.nonce)?;
        Ok(Self { out, key, piece: Vec::with_capacity(PIECE + TAG), count: 0 })
    }

    /// Marks and writes the last piece.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.key.seal_in_place_append_tag(nonce(self.count, last), Aad::empty(), &mut self.piece);
        sealed.map_err(|_| broken())?;
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        self.count = self.count.checked_add(1).ok_or_else(broken)?;
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not before more comes: only then is it known not to be the last.
        if self.piece.len() == PIECE && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what is read from it. An error means that nothing read so far is the whole.
pub(super) struct Opener<R> {
    from: R,
    key: LessSafeKey,
    piece: Vec<u8>,
    at: usize,
    count: u64,
    /// The first byte of the next piece, once it is known that there is one.
    ahead: Option<u8>,
    last: bool,
}

impl<R: Read> Opener<R> {
    pub(super) fn new(mut from: R, passphrase: &[u8]) -> Result<Self, AgeError> {
        let odd = |what| AgeError::Malformed(what);
        if line(&mut from)? != VERSION {
            return Err(odd("its first line is not that of an encrypted file"));
        }
        let stanza = line(&mut from)?;
        let mut words =
            stanza.strip_prefix("-> scrypt ").ok_or_else(|| odd("it is not encrypted under a passphrase"))?.split(' ');
        let salt: [u8; 16] = bytes(words.next()).ok_or_else(|| odd("its salt"))?;
        let digits = words.next().filter(|text| !text.starts_with(['0', '+'])).ok_or_else(|| odd("its work"))?;
        let work =
            digits.parse().ok().filter(|work| *work <= MOST_WORK).ok_or_else(|| odd("it asks for too much work"))?;
        let wrapped_line = line(&mut from)?;
        let mut wrapped: [u8; 32] = bytes(Some(&wrapped_line)).ok_or_else(|| odd("its key"))?;
        let last = line(&mut from)?;
        let tag: [u8; 32] = bytes(last.strip_prefix("--- ")).ok_or_else(|| odd("the end of its head"))?;
        let opened = wrapping_key(passphrase, &salt, work)?
            .open_in_place(nonce(0, false), Aad::empty(), &mut wrapped)
            .map_err(|_| AgeError::Passphrase)?;
        let key = Zeroizing::new(<[u8; 16]>::try_from(&*opened).map_err(|_| odd("its key"))?);
        let head = format!("{VERSION}\n{stanza}\n{wrapped_line}\n---");
        hmac::verify(&head_key(&key)?, head.as_bytes(), &tag).map_err(|_| odd("its head was changed"))?;
        let mut salt = [0; 16];
        from.read_exact(&mut salt).map_err(|_| odd("it ends early"))?;
        let key = payload_key(&key, &salt)?;
        Ok(Self { from, key, piece: Vec::new(), at: 0, count: 0, ahead: None, last: false })
    }

    fn open(&mut self) -> io::Result<()> {
        let mut piece: Vec<u8> = self.ahead.take().into_iter().collect();
        let wanted = (PIECE + TAG).saturating_sub(piece.len()) as u64;
        (&mut self.from).take(wanted).read_to_end(&mut piece)?;
        let mut ahead = [0];
        if piece.len() == PIECE + TAG && self.from.read(&mut ahead)? == 1 {
            self.ahead = Some(ahead[0]);
        }
        self.last = self.ahead.is_none();
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it was changed, or ends early");
        let opened = self.key.open_in_place(nonce(self.count, self.last), Aad::empty(), &mut piece);
        let length = opened.map_err(|_| damaged())?.len();
        if length == 0 && self.count > 0 {
            return Err(damaged());
        }
        piece.truncate(length);
        (self.piece, self.at, self.count) = (piece, 0, self.count.checked_add(1).ok_or_else(damaged)?);
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.last && !into.is_empty() {
            self.open()?;
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let (rest, into) = (rest, into);
        let taken = rest.len().min(into.len());
        if let (Some(from), Some(into)) = (rest.get(..taken), into.get_mut(..taken)) {
            into.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(taken);
        Ok(taken)
    }
}

/// How much work a passphrase costs whoever tries them: about a second here.
pub(super) fn work() -> u8 {
    let (least, most) = WORK.into_inner();
    let started = Instant::now();
    let probe = wrapping_key(b"probe", &[0; 16], 10);
    let took = if probe.is_ok() { started.elapsed() } else { Duration::from_secs(1) };
    let fits = |work: &u8| took.saturating_mul(1 << work.saturating_sub(10)) <= Duration::from_secs(1);
    (least..=most).rev().find(fits).unwrap_or(least)
}

fn wrapping_key(passphrase: &[u8], salt: &[u8; 16], work: u8) -> Result<LessSafeKey, AgeError> {
    let parameters = scrypt::Params::new(work, 8, 1).map_err(|_| AgeError::Malformed("its work"))?;
    let mut key = Zeroizing::new([0; 32]);
    let salt = [SCRYPT_LABEL, salt].concat();
    scrypt::scrypt(passphrase, &salt, &parameters, key.as_mut_slice()).map_err(|_| broken())?;
    Ok(aead(&key)?)
}

fn head_key(file_key: &[u8; 16]) -> io::Result<hmac::Key> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, derive(file_key, &[], b"header")?.as_slice()))
}

fn payload_key(file_key: &[u8; 16], nonce: &[u8; 16]) -> io::Result<LessSafeKey> {
    aead(&*derive(file_key, nonce, b"payload")?)
}

fn derive(file_key: &[u8; 16], salt: &[u8], what: &[u8]) -> io::Result<Zeroizing<[u8; 32]>> {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(file_key);
    let mut key = Zeroizing::new([0; 32]);
    let what = [what];
    let derived = secret.expand(&what, hkdf::HKDF_SHA256).map_err(|_| broken())?;
    derived.fill(key.as_mut_slice()).map_err(|_| broken())?;
    Ok(key)
}

fn aead(key: &[u8; 32]) -> io::Result<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).map_err(|_| broken())
}

fn nonce(count: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    for (into, from) in bytes.iter_mut().skip(3).zip(count.to_be_bytes()) {
        *into = from;
    }
    bytes[NONCE_LEN - 1] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn line(from: &mut impl Read) -> Result<String, AgeError> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        from.read_exact(&mut byte).map_err(|_| AgeError::Malformed("it ends early"))?;
        match byte {
            [b'\n'] => return String::from_utf8(line).map_err(|_| AgeError::Malformed("a line of its head")),
            _ if line.len() < MOST_LINE => line.extend(byte),
            _ => return Err(AgeError::Malformed("a line of its head is too long")),
        }
    }
}

fn bytes<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(text?).ok()?.try_into().ok()
}

/// What the primitives say when they are asked for what they cannot do.
fn broken() -> io::Error {
    io::Error::other("the encryption failed")
}

#[cfg(test)]
mod tests;
