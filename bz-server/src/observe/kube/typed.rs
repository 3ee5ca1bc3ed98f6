//! What is typed in an `exec -it`: the terminal's streams out of the protocol that took the connection over.
//!
//! Both protocols put several streams on one connection. In a WebSocket of Kubernetes the first byte of a message says
//! which; in SPDY a stream has a number, and kubectl opens them in the same order every time: error, input, output, size.
//!
//! **Absent:** what compresses messages, and SPDY's compressed headers; where something is not as expected, no more is
//! read of that connection.

use bz_core::access::request::Size;
use bz_protocol::keys::Direction;

use crate::observe::{CommandLens, Line};

/// The most bytes of a size.
const MAX_SIZE: usize = 128;
/// A terminal whose size nobody said yet.
const FIRST: Size = Size { rows: 24, columns: 80 };

/// What took the connection over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 6455, and Kubernetes' channels in it.
    WebSocket,
    /// SPDY/3.1.
    Spdy,
}

/// A stream within the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    Output,
    Size,
    Other,
}

/// Reads one connection.
#[derive(Debug)]
pub struct Typed {
    protocol: Protocol,
    lens: CommandLens,
    to_agent: Frames,
    to_client: Frames,
    lost: bool,
}

/// One direction's frames.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    /// What is left of a frame, once its head is read.
    frame: Option<Frame>,
    /// Of a WebSocket's message that comes in several frames.
    message: Option<Part>,
    /// A size as far as it came.
    size: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    left: u64,
    mask: Option<[u8; 4]>,
    taken: u64,
    part: Option<Part>,
    last: bool,
    /// One that may stand between those of a message, and is no part of it.
    control: bool,
}

/// No frame that is known here.
struct Unknown;

impl Typed {
    /// A terminal that nothing was said in.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        let lens = CommandLens::new(FIRST.rows, FIRST.columns);
        Self { protocol, lens, to_agent: Frames::default(), to_client: Frames::default(), lost: false }
    }

    /// Bytes of the connection.
    #[must_use]
    pub fn bytes(&mut self, way: Direction, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.lost {
            return lines;
        }
        let frames = match way {
            Direction::ToAgent => &mut self.to_agent,
            Direction::ToClient => &mut self.to_client,
        };
        let lens = &mut self.lens;
        let heard = |part, bytes: &[u8], ends: bool, size: &mut Vec<u8>| match (part, way) {
            (Part::Input, Direction::ToAgent) => lens.input(bytes),
            (Part::Output, Direction::ToClient) => lines.extend(lens.output(bytes)),
            (Part::Size, Direction::ToAgent) => {
                size.extend(bytes.iter().take(MAX_SIZE.saturating_sub(size.len())));
                if let (true, Some(said)) = (ends, said_size(size)) {
                    lens.resize(said.rows, said.columns);
                }
                if ends {
                    size.clear();
                }
            }
            (Part::Input | Part::Output | Part::Size | Part::Other, _) => {}
        };
        let read = match self.protocol {
            Protocol::WebSocket => frames.web_socket(bytes, heard),
            Protocol::Spdy => frames.spdy(bytes, heard),
        };
        self.lost = read.is_err();
        lines
    }

    /// What is left to say when nothing more comes.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Line> {
        self.lens.finish()
    }
}

impl Frames {
    fn web_socket(
        &mut self,
        mut bytes: &[u8],
        mut heard: impl FnMut(Part, &[u8], bool, &mut Vec<u8>),
    ) -> Result<(), Unknown> {
        loop {
            if self.frame.is_none() {
                if !self.fill(&mut bytes, web_socket_head) {
                    return Ok(());
                }
                self.frame = Some(self.web_socket_frame()?);
            }
            let Some(frame) = &mut self.frame else { return Ok(()) };
            let mut piece = take(&mut bytes, frame);
            if frame.part.is_none() {
                match piece.split_first() {
                    Some((channel, _)) => {
                        frame.part = Some(channel_part(*channel));
                        piece.remove(0);
                    }
                    // A message of no bytes is of no channel.
                    None if frame.left == 0 => frame.part = Some(Part::Other),
                    None => return Ok(()),
                }
            }
            let (part, ends) = (frame.part.unwrap_or(Part::Other), frame.left == 0 && frame.last);
            heard(part, &piece, ends, &mut self.size);
            if frame.left > 0 {
                return Ok(());
            }
            if !frame.control {
                self.message = if frame.last { None } else { Some(part) };
            }
            self.frame = None;
        }
    }

    fn web_socket_frame(&mut self) -> Result<Frame, Unknown> {
        let head = std::mem::take(&mut self.head);
        let (Some(first), Some(second)) = (head.first(), head.get(1)) else { return Err(Unknown) };
        if first & 0x70 != 0 {
            return Err(Unknown);
        }
        let masked = second & 0x80 != 0;
        let (length, mask) =
            head.get(2..).unwrap_or_default().split_at_checked(length_bytes(*second)).ok_or(Unknown)?;
        let left = match second & 0x7f {
            126 | 127 => length.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)),
            short => u64::from(short),
        };
        let (part, control) = match first & 0x0f {
            0 => (self.message, false),
            // A message begins with its channel.
            1 | 2 => (None, false),
            _ => (Some(Part::Other), true),
        };
        Ok(Frame { left, mask: mask_of(masked, mask), taken: 0, part, last: first & 0x80 != 0, control })
    }

    fn spdy(
        &mut self,
        mut bytes: &[u8],
        mut heard: impl FnMut(Part, &[u8], bool, &mut Vec<u8>),
    ) -> Result<(), Unknown> {
        loop {
            if self.frame.is_none() {
                if !self.fill(&mut bytes, |_| 8) {
                    return Ok(());
                }
                let head = std::mem::take(&mut self.head);
                let [a, b, c, d, _, x, y, z] = <[u8; 8]>::try_from(head).map_err(|_| Unknown)?;
                let part = match (a & 0x80, u32::from_be_bytes([a, b, c, d])) {
                    (0, 3) => Part::Input,
                    (0, 5) => Part::Output,
                    (0, 7) => Part::Size,
                    (0, _) => Part::Other,
                    (_, word) if word >> 16 == 0x8003 => Part::Other,
                    (_, _) => return Err(Unknown),
                };
                let left = u64::from(u32::from_be_bytes([0, x, y, z]));
                self.frame = Some(Frame { left, mask: None, taken: 0, part: Some(part), last: true, control: false });
            }
            let Some(frame) = &mut self.frame else { return Ok(()) };
            let piece = take(&mut bytes, frame);
            let ends = frame.left == 0;
            heard(frame.part.unwrap_or(Part::Other), &piece, ends, &mut self.size);
            if !ends {
                return Ok(());
            }
            self.frame = None;
        }
    }

    /// Takes bytes until a head is whole, whose length its own beginning says.
    fn fill(&mut self, bytes: &mut &[u8], length: impl Fn(&[u8]) -> usize) -> bool {
        while self.head.len() < length(&self.head) {
            let Some((first, rest)) = bytes.split_first() else { return false };
            self.head.push(*first);
            *bytes = rest;
        }
        true
    }
}

/// The bytes of a frame that are there, unmasked.
fn take(bytes: &mut &[u8], frame: &mut Frame) -> Vec<u8> {
    let most = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
    let (piece, rest) = bytes.split_at_checked(most).unwrap_or_default();
    *bytes = rest;
    let mut piece = piece.to_vec();
    if let Some(mask) = frame.mask {
        for (byte, key) in piece.iter_mut().zip(mask.iter().cycle().skip((frame.taken % 4) as usize)) {
            *byte ^= key;
        }
    }
    frame.taken = frame.taken.saturating_add(piece.len() as u64);
    frame.left = frame.left.saturating_sub(piece.len() as u64);
    piece
}

const fn length_bytes(second: u8) -> usize {
    match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

fn web_socket_head(head: &[u8]) -> usize {
    let Some(second) = head.get(1) else { return 2 };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    2_usize.saturating_add(length_bytes(*second)).saturating_add(mask)
}

fn mask_of(masked: bool, bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.try_into().ok().filter(|_| masked)
}

const fn channel_part(channel: u8) -> Part {
    match channel {
        0 => Part::Input,
        1 => Part::Output,
        4 => Part::Size,
        _ => Part::Other,
    }
}

fn said_size(json: &[u8]) -> Option<Size> {
    let said: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| said.get(name)?.as_u64()?.try_into().ok();
    Some(Size { rows: side("Height")?, columns: side("Width")? }.clamped())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Direction = Direction::ToAgent;
    const OUT: Direction = Direction::ToClient;

    fn web_socket(way: Direction, channel: u8, text: &[u8]) -> Vec<u8> {
        let payload = [&[channel][..], text].concat();
        let length = u8::try_from(payload.len()).unwrap();
        if way == OUT {
            return [&[0x82, length][..], &payload].concat();
        }
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        [&[0x82, length | 0x80][..], &mask, &masked].concat()
    }

    fn spdy(_: Direction, stream: u8, text: &[u8]) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [&[0, 0, 0, stream * 2 + 3, 0, 0, 0, length][..], text].concat()
    }

    fn run(protocol: Protocol, frame: fn(Direction, u8, &[u8]) -> Vec<u8>, step: usize) -> Vec<String> {
        let mut typed = Typed::new(protocol);
        let size = if protocol == Protocol::Spdy { 2 } else { 4 };
        let said = [
            (OUT, frame(OUT, 1, b"$ ")),
            (IN, frame(IN, size, br#"{"Width":120,"Height":40}"#)),
            (IN, frame(IN, 0, b"cat /etc/hos\x7fsts\r")),
            (OUT, frame(OUT, 1, b"cat /etc/hos\x08 \x08sts\r\nnothing\r\n$ ")),
            (IN, frame(IN, 0, b"id\r")),
            (OUT, frame(OUT, 1, b"id\r\nuid=0\r\n$ ")),
        ];
        let mut lines = Vec::new();
        for (way, bytes) in &said {
            for piece in bytes.chunks(step) {
                lines.extend(typed.bytes(*way, piece));
            }
        }
        lines.extend(typed.finish());
        lines.into_iter().map(|line| line.text).collect()
    }

    /// F-164~: what is typed in a container's shell is read off its screen, whichever protocol carries it.
    #[test]
    fn what_is_typed_in_a_container_is_read() {
        for step in [1, 3, 1000] {
            for lines in [run(Protocol::WebSocket, web_socket, step), run(Protocol::Spdy, spdy, step)] {
                assert_eq!(lines, ["cat /etc/hosts", "id"], "in pieces of {step}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_let_go() {
        let mut typed = Typed::new(Protocol::WebSocket);
        assert_eq!(typed.bytes(OUT, &[0xff; 14]), []);
        assert_eq!(typed.bytes(IN, &web_socket(IN, 0, b"ls\r")), []);
        assert!(typed.lost);
        let mut typed = Typed::new(Protocol::Spdy);
        let syn = [0x80, 3, 0, 1, 0, 0, 0, 2, 7, 7];
        assert_eq!((typed.bytes(IN, &syn), typed.lost), (vec![], false));
        assert_eq!((typed.bytes(IN, &[0xff; 8]), typed.lost), (vec![], true));
    }
}
