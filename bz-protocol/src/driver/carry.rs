//! A stream of a session and a TCP connection, carried to one another.
//!
//! A program must never take what was cut short for all there was: a connection is closed in order only when both
//! directions ended in order, and is reset in every other case, the end of this task included.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes of one read: a frame takes as many.
const CHUNK: usize = crate::limits::MAX_PAYLOAD;

/// A connection that is reset when it is dropped before both directions ended in order.
#[derive(Debug)]
pub struct Cut {
    tcp: TcpStream,
    whole: bool,
}

impl Cut {
    /// Holds a connection.
    #[must_use]
    pub const fn new(tcp: TcpStream) -> Self {
        Self { tcp, whole: false }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !self.whole {
            // One that is gone already needs no reset.
            self.tcp.set_zero_linger().unwrap_or_default();
        }
    }
}

/// Bytes both ways until both have ended. Whatever breaks one end resets the other, and so does dropping this future.
///
/// # Errors
/// What broke.
pub async fn carry<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut tcp: Cut) -> std::io::Result<()> {
    tcp.tcp.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut tcp.tcp, CHUNK, CHUNK).await?;
    tcp.whole = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn an_end_in_order_is_one() {
        let ((ours, mut program), (stream, mut far)) = (pair().await, tokio::io::duplex(64));
        let carried = tokio::spawn(carry(stream, Cut::new(ours)));
        far.write_all(b"answer").await.unwrap();
        far.shutdown().await.unwrap();
        program.shutdown().await.unwrap();
        let mut read = Vec::new();
        program.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
        carried.await.unwrap().unwrap();
    }

    /// Whoever stops carrying, as the end of a whole tunnel does, resets the connection.
    #[tokio::test]
    async fn what_is_cut_short_is_never_taken_for_an_end() {
        let ((ours, mut program), (stream, mut far)) = (pair().await, tokio::io::duplex(64));
        let carried = tokio::spawn(carry(stream, Cut::new(ours)));
        far.write_all(b"half").await.unwrap();
        let mut read = [0; 4];
        program.read_exact(&mut read).await.unwrap();
        carried.abort();
        let error = program.read_to_end(&mut Vec::new()).await.expect_err("it looked like an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
