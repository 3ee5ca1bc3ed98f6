//! Messages on blocking streams.

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};

use crate::copy::{MAX_MESSAGE, Message, length};

use crate::files::report::Interrupted;

/// Bytes gathered before they are written; several small files go at once.
const GATHERED: usize = 2 * MAX_MESSAGE;

pub(crate) struct Incoming<R> {
    stream: BufReader<R>,
    body: Vec<u8>,
}

impl<R: Read> Incoming<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream: BufReader::with_capacity(GATHERED, stream), body: Vec::new() }
    }

    /// The next message. That the stream ends is an error: the last word says that it may.
    pub(crate) fn next(&mut self) -> Result<Message, Interrupted> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(cut)?;
        self.body.resize(length(prefix)?, 0);
        self.stream.read_exact(&mut self.body).map_err(cut)?;
        Ok(Message::decode(&self.body)?)
    }
}

pub(crate) struct Outgoing<W: Write>(BufWriter<W>);

impl<W: Write> Outgoing<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self(BufWriter::with_capacity(GATHERED, stream))
    }

    pub(crate) fn say(&mut self, message: &Message) -> Result<(), Interrupted> {
        self.0.write_all(&message.encode()?).map_err(cut)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Interrupted> {
        self.0.flush().map_err(cut)
    }

    /// Says it so that it goes out now.
    pub(crate) fn say_now(&mut self, message: &Message) -> Result<(), Interrupted> {
        self.say(message)?;
        self.flush()
    }
}

fn cut(error: std::io::Error) -> Interrupted {
    let ended = [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    if ended.contains(&error.kind()) { Interrupted::Cut } else { Interrupted::Stream(error) }
}
