//! PostgreSQL: the first messages of a connection, up to who logs in.

use std::io;

use bz_protocol::driver::SessionStream;
use bz_protocol::stream::Why;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::database::upstream::{Held, Tls};
use crate::backend::database::{end, other_user};

/// Codes in the place of a version, in the first message of a client.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// A client asks for TLS once and for GSSAPI once.
const MOST_QUESTIONS: u32 = 4;
/// A server takes no longer first message, nor a shorter one.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=10_000;
/// A server's first words are shorter.
const LONGEST_ANSWER: usize = 16 << 10;
/// A message of authentication that lists mechanisms of SASL.
const SASL: [u8; 4] = 10_u32.to_be_bytes();
/// How TLS begins: a record of the handshake.
const TLS_RECORD: u8 = 0x16;
/// TLS's own word for "no": a fatal alert, `handshake_failure`.
const TLS_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// What is wrong with who logs in: a class of SQLSTATE.
const INVALID_AUTHORIZATION: &str = "28000";
const PROTOCOL_VIOLATION: &str = "08P01";

/// A connection on which the client may log in.
pub(super) async fn begin(there: TcpStream, tls: Option<&Tls>) -> Result<Held, Why> {
    let mut there = Held::new(there);
    let Some(tls) = tls else { return Ok(there) };
    let question = [8_u32.to_be_bytes(), TLS.to_be_bytes()].concat();
    there.write_all(&question).await.map_err(|_| Why::Unavailable)?;
    // One byte and no more: what came before TLS must not count as if it came within it.
    match there.read_u8().await {
        Ok(b'S') => tls.over(there).await,
        Ok(b'N') => Err(Why::NoTls),
        Ok(_) | Err(_) => Err(Why::Unavailable),
    }
}

/// A client's first message that is passed on.
enum First {
    /// Who logs in.
    Startup(Vec<u8>),
    /// What another connection does is to be canceled.
    Cancel(Vec<u8>),
    /// It is answered, and the connection over.
    Refused,
}

/// Carries a client's connection.
pub(super) async fn carry(mut here: SessionStream, mut there: Held, user: Option<&str>) -> io::Result<()> {
    let message = match first(&mut here).await? {
        First::Startup(message) => {
            if let (Some(user), false) = (user, user.is_none_or(|user| names(&message, user))) {
                refuse(&mut here, INVALID_AUTHORIZATION, &other_user(user)).await?;
                return end(here).await;
            }
            message
        }
        First::Cancel(message) => message,
        First::Refused => return end(here).await,
    };
    there.write_all(&message).await?;
    there.flush().await?;
    if there.is_tls() {
        ways_to_log_in(&mut here, &mut there).await?;
    }
    tokio::io::copy_bidirectional(&mut here, &mut there).await?;
    there.whole = true;
    Ok(())
}

/// The client's first message, once it has asked for whatever encryption there is not.
async fn first(here: &mut SessionStream) -> io::Result<First> {
    for _ in 0..MOST_QUESTIONS {
        let mut head = [0; 4];
        here.read_exact(&mut head).await?;
        if head.first() == Some(&TLS_RECORD) {
            here.write_all(&TLS_ALERT).await?;
            return Ok(First::Refused);
        }
        let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if !LENGTHS.contains(&length) {
            break;
        }
        let mut message = vec![0; length];
        let (front, rest) = message.split_at_mut(4);
        front.copy_from_slice(&head);
        here.read_exact(rest).await?;
        let code = rest.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
        match code {
            TLS | GSS if length == 8 => here.write_all(b"N").await?,
            CANCEL => return Ok(First::Cancel(message)),
            _ if code >> 16 == 3 => return Ok(First::Startup(message)),
            _ => break,
        }
    }
    refuse(here, PROTOCOL_VIOLATION, "this is not how a client of PostgreSQL begins").await?;
    Ok(First::Refused)
}

/// Passes on what the server says first, up to the ways to log in, without those that are bound to a TLS of the client's
/// own: it has none, and takes a server that offers them for one that was tampered with.
async fn ways_to_log_in(here: &mut SessionStream, there: &mut Held) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        let mut got = 0;
        while let Some(room) = head.get_mut(got..).filter(|room| !room.is_empty()) {
            match there.read(room).await? {
                // Whatever it means, it is the client's to hear.
                0 => return here.write_all(head.get(..got).unwrap_or_default()).await,
                count => got = got.saturating_add(count),
            }
        }
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !matches!(kind, b'R' | b'N' | b'v') || !(4..=LONGEST_ANSWER).contains(&length) {
            return here.write_all(&head).await;
        }
        let mut body = vec![0; length.saturating_sub(4)];
        there.read_exact(&mut body).await?;
        if kind == b'R' {
            body = unbound(body);
        }
        let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
        here.write_all(&[&[kind], length.to_be_bytes().as_slice(), &body].concat()).await?;
        if kind == b'R' {
            return Ok(());
        }
    }
}

/// The mechanisms of SASL without those that are bound to TLS; anything else as it is.
fn unbound(body: Vec<u8>) -> Vec<u8> {
    let Some((&SASL, names)) = body.split_first_chunk::<4>() else { return body };
    let kept = names.split_inclusive(|byte| *byte == 0).filter(|name| !name.ends_with(b"-PLUS\0"));
    SASL.iter().chain(kept.flatten()).copied().collect()
}

/// Whether the message says this user, once, and nobody else.
fn names(message: &[u8], user: &str) -> bool {
    let mut parts = message.get(8..).unwrap_or_default().split(|byte| *byte == 0);
    let mut found = Vec::new();
    while let Some(key) = parts.next().filter(|key| !key.is_empty()) {
        let value = parts.next();
        if key == b"user" {
            found.push(value);
        }
    }
    found == [Some(user.as_bytes())]
}

async fn refuse(here: &mut SessionStream, state: &str, words: &str) -> io::Result<()> {
    let body = format!("SFATAL\0VFATAL\0C{state}\0M{words}\0\0");
    let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
    here.write_all(&[b"E", length.to_be_bytes().as_slice(), body.as_bytes()].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_to_log_in_is_bound_to_tls() {
        let list = |names: &[u8]| [&SASL, names].concat();
        let both = list(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        assert_eq!(unbound(both), list(b"SCRAM-SHA-256\0\0"));
        for other in [list(b"SCRAM-SHA-256\0\0"), vec![0, 0, 0, 5, 1, 2, 3, 4], vec![0], vec![]] {
            assert_eq!(unbound(other.clone()), other);
        }
    }

    #[test]
    fn a_login_is_as_one_user() {
        let message = |pairs: &[u8]| [&[0; 4], &[0, 3, 0, 0], pairs].concat();
        assert!(names(&message(b"user\0bob\0database\0x\0\0"), "bob"));
        for pairs in [
            b"user\0bo\0\0".as_slice(),
            b"user\0bobby\0\0",
            b"database\0bob\0\0",
            b"user\0bob\0user\0eve\0\0",
            b"user\0eve\0user\0bob\0\0",
            b"database\0user\0x\0bob\0\0",
            b"\0user\0bob\0\0",
            b"user",
            b"",
        ] {
            assert!(!names(&message(pairs), "bob"), "{pairs:?}");
        }
    }
}
