//! MySQL and MariaDB: the greeting, the login, and commands that change the user.
//!
//! The server greets first, and says what it can; what cannot be read or is the agent's own business is taken out of it.
//! The client answers, and only then is TLS asked for, because a server keeps to what the request for it said. That puts
//! one packet more on the server's side, so that the numbers of the login's packets differ by one.

use std::io;
use std::sync::atomic::Ordering;

use bz_protocol::driver::SessionStream;
use bz_protocol::stream::Why;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::database::upstream::{Held, Tls};
use crate::backend::database::{Way, end, other_user};

mod packet;

use self::packet::{Packet, Packets, error};

const COMPRESS: u32 = 1 << 5;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const ZSTD: u32 = 1 << 26;
/// What no client is told that the server can.
const HIDDEN: u32 = COMPRESS | TLS | ZSTD;

const VERSION: u8 = 10;
/// What a request for TLS has of the client's answer.
const TLS_REQUEST: usize = 32;
/// The command that changes the user.
const CHANGE_USER: u8 = 0x11;

/// Numbers and classes of errors.
const ACCESS_DENIED: (u16, &str) = (1045, "28000");
/// Clients take no number of their own (2026 would be TLS) from a server.
const HANDSHAKE: (u16, &str) = (1043, "08S01");

/// A server that has greeted.
pub(super) struct Greeted {
    there: Packets<Held>,
    greeting: Packet,
    /// It is no greeting but a refusal.
    refuses: bool,
}

/// Reads the greeting.
pub(super) async fn greeted(there: TcpStream, tls: bool) -> Result<Greeted, Why> {
    let mut there = Packets::new(Held::new(there));
    let greeting = there.next().await.map_err(|_| Why::Unavailable)?.ok_or(Why::Unavailable)?;
    if greeting.body.first() == Some(&0xff) {
        return Ok(Greeted { there, greeting, refuses: true });
    }
    let mut greeting = greeting;
    let can = mask(&mut greeting.body).ok_or(Why::Unavailable)?;
    if tls && can & TLS == 0 {
        return Err(Why::NoTls);
    }
    Ok(Greeted { there, greeting, refuses: false })
}

/// Whether TLS is spoken there as it should be, found out without a client.
pub(super) async fn proved(there: TcpStream, tls: &Tls) -> Result<(), Why> {
    let Greeted { there, refuses, .. } = greeted(there, true).await?;
    let body = [PROTOCOL_41.to_le_bytes().as_slice(), &[0; TLS_REQUEST - 4]].concat();
    if refuses {
        return Err(Why::Unavailable);
    }
    encrypted(there, Some(tls), &Packet { number: 1, body }).await.map(drop)
}

/// Takes out of a greeting what clients are not told; what the server can.
fn mask(greeting: &mut [u8]) -> Option<u32> {
    let (version, rest) = greeting.split_first_mut()?;
    if *version != VERSION {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == 0)?;
    // Behind the text: the connection, the first part of the challenge, a filler.
    let low = end.checked_add(1 + 4 + 8 + 1)?;
    let high = low.checked_add(2 + 1 + 2)?;
    let mut can = [0; 4];
    for (at, byte) in can.iter_mut().enumerate() {
        let place = if at < 2 { low.checked_add(at)? } else { high.checked_add(at)?.checked_sub(2)? };
        let there = rest.get_mut(place)?;
        *byte = *there;
        let [a, b, c, d] = HIDDEN.to_le_bytes();
        *there &= ![a, b, c, d].get(at)?;
    }
    Some(u32::from_le_bytes(can))
}

/// Carries a client's connection.
pub(super) async fn carry(here: SessionStream, greeted: Greeted, (way, user): (&Way, Option<&str>)) -> io::Result<()> {
    let tls = way.tls.as_ref();
    let mut here = Packets::new(here);
    let Greeted { there, greeting, refuses } = greeted;
    here.send(&greeting).await?;
    if refuses {
        return end(here.into_parts().0).await;
    }
    let Some(response) = here.next().await? else { return Ok(()) };
    let number = response.number.wrapping_add(1);
    let refusal = match refused(&response, user) {
        Ok(()) => match encrypted(there, tls, &response).await {
            Ok(there) => return log_in((here, there), response, (u8::from(tls.is_some()), user)).await,
            Err(why) => {
                way.doubted.store(true, Ordering::Relaxed);
                error(number, HANDSHAKE, &format!("TLS to the database: {why}"))
            }
        },
        Err(refusal) => refusal,
    };
    here.send(&refusal).await?;
    end(here.into_parts().0).await
}

/// What is wrong with a client's answer to the greeting.
fn refused(response: &Packet, user: Option<&str>) -> Result<(), Packet> {
    let number = response.number.wrapping_add(1);
    let wrong = |words: &str| Err(error(number, HANDSHAKE, words));
    let body = &response.body;
    let Some(can) = body.first_chunk().map(|can| u32::from_le_bytes(*can)) else {
        return wrong("this is not how a client of MySQL begins");
    };
    if response.number != 1 || can & PROTOCOL_41 == 0 || body.len() <= TLS_REQUEST {
        return wrong("this is not how a client of MySQL begins");
    }
    if can & HIDDEN != 0 {
        return wrong("TLS and compression end at the client: this connection is encrypted by other means");
    }
    let said = body.get(TLS_REQUEST..).and_then(|rest| rest.split(|byte| *byte == 0).next());
    match user {
        Some(user) if said != Some(user.as_bytes()) => Err(error(number, ACCESS_DENIED, &other_user(user))),
        Some(_) | None => Ok(()),
    }
}

/// The connection with TLS, where it is to have it. The request for it says of the client what the client says.
async fn encrypted(there: Packets<Held>, tls: Option<&Tls>, response: &Packet) -> Result<Packets<Held>, Why> {
    let Some(tls) = tls else { return Ok(there) };
    let mut there = there;
    let mut request = response.body.clone();
    request.truncate(TLS_REQUEST);
    ask_for_tls(&mut request);
    there.send(&Packet { number: 1, body: request }).await.map_err(|_| Why::Unavailable)?;
    // What came before TLS must not count as if it came within it.
    let there = there.into_inner().ok_or(Why::Unavailable)?;
    let over = tokio::time::timeout(super::PATIENCE, tls.over(there)).await;
    over.map_err(|_| Why::TimedOut)?.map(Packets::new)
}

fn ask_for_tls(body: &mut [u8]) {
    if let Some(can) = body.first_chunk_mut() {
        *can = (u32::from_le_bytes(*can) | TLS).to_le_bytes();
    }
}

/// Carries the packets of a login, whose numbers differ by `shift`, and then what follows.
async fn log_in(
    (mut here, mut there): (Packets<SessionStream>, Packets<Held>),
    mut response: Packet,
    (shift, user): (u8, Option<&str>),
) -> io::Result<()> {
    if shift > 0 {
        ask_for_tls(&mut response.body);
    }
    response.number = response.number.wrapping_add(shift);
    there.send(&response).await?;
    loop {
        tokio::select! {
            packet = there.next() => {
                let Some(mut packet) = packet? else { return end(here.into_parts().0).await };
                packet.number = packet.number.wrapping_sub(shift);
                here.send(&packet).await?;
                match packet.body.first() {
                    Some(0x00) => return through(here, there, user).await,
                    Some(0xff) => {
                        there.whole();
                        return end(here.into_parts().0).await;
                    }
                    Some(_) | None => {}
                }
            }
            packet = here.next() => {
                let Some(mut packet) = packet? else { return Ok(()) };
                packet.number = packet.number.wrapping_add(shift);
                there.send(&packet).await?;
            }
        }
    }
}

/// Carries what follows the login.
async fn through(here: Packets<SessionStream>, there: Packets<Held>, user: Option<&str>) -> io::Result<()> {
    let ((mut here, from_here), (mut there, from_there)) = (here.into_parts(), there.into_parts());
    here.write_all(&from_there).await?;
    let Some(user) = user else {
        there.write_all(&from_here).await?;
        there.flush().await?;
        tokio::io::copy_bidirectional(&mut here, &mut there).await?;
        there.whole = true;
        return Ok(());
    };
    let denied = {
        let (here_reads, mut here_writes) = tokio::io::split(&mut here);
        let (mut there_reads, mut there_writes) = tokio::io::split(&mut there);
        let mut commands = Packets::with(here_reads, from_here);
        let up = commands_of(&mut commands, &mut there_writes, user);
        let down = async {
            tokio::io::copy(&mut there_reads, &mut here_writes).await?;
            here_writes.shutdown().await.map(|()| None)
        };
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut up => match ended? {
                Some(denied) => Some(denied),
                None => down.await?,
            },
            ended = &mut down => {
                ended?;
                up.await?
            }
        }
    };
    if let Some(denied) = denied {
        let mut here = Packets::new(here);
        here.send(&denied).await?;
        return end(here.into_parts().0).await;
    }
    there.whole = true;
    Ok(())
}

/// Carries a client's commands to their end, or to one that asks to be somebody else: then, what to say to that.
async fn commands_of<R, W>(commands: &mut Packets<R>, there: &mut W, user: &str) -> io::Result<Option<Packet>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // A packet numbered 0 is a command, unless the number wrapped within what is sent of a file.
    let (mut before, mut body) = ((0, 0), vec![0; 16 << 10]);
    while let Some((mut left, number)) = commands.head().await? {
        let is_command = number == 0 && !(before.0 == u8::MAX && before.1 > 0);
        before = (number, left);
        let head = packet::head(left, number);
        if is_command && left > 0 && commands.peek().await? == Some(CHANGE_USER) {
            let asked = commands.body(left).await?;
            let said = asked.get(1..).and_then(|rest| rest.split(|byte| *byte == 0).next());
            if said != Some(user.as_bytes()) {
                return Ok(Some(error(1, ACCESS_DENIED, &other_user(user))));
            }
            there.write_all(&[head.as_slice(), &asked].concat()).await?;
        } else {
            there.write_all(&head).await?;
            while left > 0 {
                let some = commands.some(&mut body, left).await?;
                there.write_all(some).await?;
                left = left.saturating_sub(some.len());
            }
        }
        if commands.is_empty() {
            there.flush().await?;
        }
    }
    there.shutdown().await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(can: u32) -> Vec<u8> {
        let [a, b, c, d] = can.to_le_bytes();
        [b"\x0a10.11\0".as_slice(), &[9; 13], &[a, b, 45, 2, 0, c, d], &[21], &[0; 10], b"123456789012\0p\0"].concat()
    }

    #[test]
    fn a_greeting_loses_what_clients_are_not_told() {
        let mut body = greeting(u32::MAX);
        assert_eq!(mask(&mut body), Some(u32::MAX));
        assert_eq!(body, greeting(!HIDDEN));
        for bad in [b"".as_slice(), b"\x09x\0", b"\x0anever ends", &greeting(0)[..20]] {
            assert_eq!(mask(&mut bad.to_vec()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_client_s_answer_is_checked() {
        let answer = |can: u32, number: u8, user: &str| {
            let body = [can.to_le_bytes().as_slice(), &[0; 28], user.as_bytes(), &[0, 0]].concat();
            Packet { number, body }
        };
        let code = |packet: &Packet, user| {
            refused(packet, user).map_err(|refusal| {
                assert_eq!(refusal.number, packet.number + 1);
                u16::from_le_bytes([refusal.body[1], refusal.body[2]])
            })
        };
        assert_eq!(code(&answer(PROTOCOL_41, 1, "bob"), Some("bob")), Ok(()));
        assert_eq!(code(&answer(PROTOCOL_41, 1, "eve"), None), Ok(()));
        assert_eq!(code(&answer(PROTOCOL_41, 1, "bobby"), Some("bob")), Err(ACCESS_DENIED.0));
        assert_eq!(code(&answer(PROTOCOL_41, 1, ""), Some("bob")), Err(ACCESS_DENIED.0));
        for bad in [answer(0, 1, "bob"), answer(PROTOCOL_41, 0, "bob"), answer(PROTOCOL_41 | TLS, 1, "bob")] {
            assert_eq!(code(&bad, Some("bob")), Err(HANDSHAKE.0));
        }
        assert_eq!(code(&Packet { number: 1, body: vec![1, 2] }, None), Err(HANDSHAKE.0));
    }

    /// What is written to the server, and whether the client was refused.
    async fn carried(packets: &[(u8, &[u8])], user: &str) -> (Vec<u8>, bool) {
        let bytes: Vec<u8> = packets
            .iter()
            .flat_map(|(number, body)| [packet::head(body.len(), *number).as_slice(), body].concat())
            .collect();
        let mut written = Vec::new();
        let mut commands = Packets::new(bytes.as_slice());
        let denied = commands_of(&mut commands, &mut written, user).await.unwrap();
        (written, denied.is_some())
    }

    #[tokio::test]
    async fn a_change_of_user_is_found_among_commands() {
        let (same, other) = (b"\x11bob\0\0\0".as_slice(), b"\x11eve\0\0\0".as_slice());
        let query = b"\x03select 1".as_slice();
        let whole = |packets: &[(u8, &[u8])]| packets.iter().map(|(_, body)| body.len() + 4).sum::<usize>();
        let fine = [(0, query), (0, same), (3, other), (0, b"".as_slice()), (0, query)];
        assert_eq!(carried(&fine, "bob").await, (carried(&fine, "bob").await.0, false));
        assert_eq!(carried(&fine, "bob").await.0.len(), whole(&fine));
        assert_eq!(
            carried(&[(0, query), (0, other), (0, query)], "bob").await,
            (carried(&[(0, query)], "bob").await.0, true)
        );
        // Content of a file, whose number wraps; after its end comes a command.
        let file = [(255, b"x".as_slice()), (0, other), (1, b"".as_slice())];
        assert!(!carried(&file, "bob").await.1);
        assert!(carried(&[(255, b"".as_slice()), (0, other)], "bob").await.1);
    }
}
