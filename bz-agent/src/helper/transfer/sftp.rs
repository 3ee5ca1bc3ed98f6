//! The server of SFTP version 3, as OpenSSH's own clients speak it: one request after the other, in order. Names are
//! bytes. What waits is bounded by one request, and what is open by [`MAX_HANDLES`].

mod attributes;
mod packet;
mod requests;

use super::tracked::Tracked;
use super::{CUT, Log};
use packet::{BAD_MESSAGE, INIT, Packet, VERSION, read_packet, status};
use std::collections::BTreeMap;
use std::fs::ReadDir;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Files and directories open at once.
const MAX_HANDLES: usize = 128;
/// The version of the protocol that everybody speaks.
const OURS: u32 = 3;
/// What this server can beside the protocol itself.
const EXTENSIONS: [(&str, &str); 7] = [
    ("posix-rename@openssh.com", "1"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
];

/// What is open.
enum Handle {
    File(Box<Tracked>),
    Directory { path: PathBuf, rest: ReadDir },
}

/// One person's session.
struct Server<W> {
    handles: BTreeMap<u32, Handle>,
    next: u32,
    log: Log<W>,
    home: PathBuf,
}

pub(super) fn serve<W: Write>(stream: &UnixStream, log: Log<W>) -> i32 {
    let home = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut server = Server { handles: BTreeMap::new(), next: 0, log, home };
    let code = server.talk(stream);
    for (_, handle) in std::mem::take(&mut server.handles) {
        server.log_file(handle, false);
    }
    code
}

impl<W: Write> Server<W> {
    fn talk(&mut self, mut stream: impl Read + Write) -> i32 {
        loop {
            let packet = match read_packet(&mut stream) {
                Ok(Some(packet)) => packet,
                Ok(None) => return 0,
                Err(_) => return CUT,
            };
            let answer = match packet.split_first() {
                Some((&INIT, _)) => EXTENSIONS.iter().fold(Packet::new(VERSION).u32(OURS), |packet, (name, data)| {
                    packet.string(name.as_bytes()).string(data.as_bytes())
                }),
                Some((&kind, rest)) => self.answer(kind, rest),
                None => return CUT,
            };
            if stream.write_all(&answer.finish()).is_err() {
                return CUT;
            }
        }
    }

    fn answer(&mut self, kind: u8, rest: &[u8]) -> Packet {
        let mut request = bz_core::ssh::wire::Reader::new(rest);
        let Ok(id) = request.u32() else { return status(0, BAD_MESSAGE, "the message is too short") };
        match self.request(kind, id, &mut request) {
            Ok(answer) => answer,
            Err(refused) => refused.answer(id),
        }
    }

    fn keep(&mut self, handle: Handle) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.handles.insert(number, handle);
        number
    }

    fn log_file(&mut self, handle: Handle, closed: bool) {
        if let Handle::File(file) = handle {
            self.log.file(&file.finish(closed));
        }
    }
}

#[cfg(test)]
mod tests;
