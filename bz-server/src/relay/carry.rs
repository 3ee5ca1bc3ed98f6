//! What one end's stream brings goes to the other, packet by packet, past the record.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bz_protocol::carrier::{Stream, read_message, write_message};
use bz_protocol::keys::Direction;
use bz_protocol::limits::MAX_PACKET;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::record::{Carrier, Unrecorded};

/// How long a client whose agent is gone may take to say what it had to say.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which end's stream ended first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The agent ended its session: its stream closed cleanly.
    Agent,
    /// The client's stream ended or broke, or the agent's link broke.
    Client,
    /// A packet was not relayed.
    Here(Unrecorded),
}

/// What every packet must pass before it goes on.
pub(super) trait Record: Sync {
    /// Notes a packet, or says why it must not go on.
    fn see(&self, direction: Direction, packet: &[u8]) -> impl Future<Output = Result<(), Unrecorded>> + Send;
}

impl Record for Carrier {
    fn see(&self, direction: Direction, packet: &[u8]) -> impl Future<Output = Result<(), Unrecorded>> + Send {
        Self::see(self, direction, packet)
    }
}

/// Each direction is a loop of its own: a message half read is never dropped for the other's sake. An end that takes no
/// more may still have said something that has not been read: only where its own words end is it gone.
pub(super) async fn carry(client: Box<dyn Stream>, agent: Box<dyn Stream>, record: &impl Record) -> Ended {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_agent, mut to_agent) = tokio::io::split(agent);
    let client_left = AtomicBool::new(false);
    let inward = async {
        match pass_all(from_client, &mut to_agent, Direction::ToAgent, record).await {
            Some(Over::Refused(why)) => return Ended::Here(why),
            Some(Over::Broken) | None => {}
        }
        // The agent answers the end of a carrier with the end of its own: that is not its session's.
        client_left.store(true, Ordering::Relaxed);
        to_agent.shutdown().await.unwrap_or_default();
        Ended::Client
    };
    let outward = async {
        let over = pass_all(from_agent, &mut to_client, Direction::ToClient, record).await;
        if let Some(Over::Refused(why)) = over {
            return Ended::Here(why);
        }
        // A client that hears of it ends its own direction, and has then said what it had to say.
        to_client.shutdown().await.unwrap_or_default();
        if over.is_none() && !client_left.load(Ordering::Relaxed) { Ended::Agent } else { Ended::Client }
    };
    tokio::pin!(inward, outward);
    let ended = tokio::select! {
        ended = &mut inward => return ended,
        ended = &mut outward => ended,
    };
    if matches!(ended, Ended::Here(_)) {
        return ended;
    }
    match tokio::time::timeout(LAST_WORDS, inward).await {
        Ok(Ended::Here(why)) => Ended::Here(why),
        Ok(Ended::Client | Ended::Agent) | Err(_) => ended,
    }
}

/// Why a direction ended otherwise than by its sender's word.
enum Over {
    Refused(Unrecorded),
    Broken,
}

/// Records all that comes, and passes it on for as long as it is taken.
async fn pass_all(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    direction: Direction,
    record: &impl Record,
) -> Option<Over> {
    let mut taken = true;
    loop {
        let packet = match read_message(&mut from, MAX_PACKET).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return None,
            Err(_) => return Some(Over::Broken),
        };
        if let Err(why) = record.see(direction, &packet).await {
            return Some(Over::Refused(why));
        }
        // What a carrier took it sends by itself; to wait for each packet would be a round of wakes for each.
        taken = taken && write_message(to, &packet).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use tokio::io::{DuplexStream, duplex};
    use tokio::sync::Notify;

    use super::*;

    /// Notes what passes; one direction's packets wait until the other end's stream has ended, or took one.
    struct Slow {
        seen: Mutex<Vec<(Direction, Vec<u8>)>>,
        waits: Direction,
        other: Notify,
    }

    impl Record for Slow {
        async fn see(&self, direction: Direction, packet: &[u8]) -> Result<(), Unrecorded> {
            if direction == self.waits {
                self.other.notified().await;
            } else {
                self.other.notify_one();
            }
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((direction, packet.to_vec()));
            Ok(())
        }
    }

    /// One end's stream, on which this is said before it is dropped; and what is kept open of it.
    async fn says(words: &[u8]) -> (Box<dyn Stream>, DuplexStream) {
        let (here, mut there) = duplex(1024);
        write_message(&mut there, words).await.unwrap();
        (Box::new(here), there)
    }

    /// Whoever has left already, and whatever is still sent to it: what it said last is in the record.
    #[tokio::test(start_paused = true)]
    async fn the_last_words_of_an_end_that_left_are_recorded() {
        for waits in [Direction::ToAgent, Direction::ToClient] {
            let (client, at_client) = says(b"of the client").await;
            let (agent, at_agent) = says(b"of the agent").await;
            let (gone, stays) = if waits == Direction::ToAgent { (at_client, at_agent) } else { (at_agent, at_client) };
            drop(gone);
            let record = Slow { seen: Mutex::default(), waits, other: Notify::new() };
            let ended = carry(client, agent, &record).await;
            drop(stays);
            let ends = if waits == Direction::ToAgent { Ended::Client } else { Ended::Agent };
            assert_eq!(ended, ends);
            let seen = record.seen.into_inner().unwrap();
            let words =
                [(Direction::ToAgent, b"of the client".to_vec()), (Direction::ToClient, b"of the agent".to_vec())];
            assert!(words.iter().all(|said| seen.contains(said)), "{waits:?} is slow: only {seen:?}");
        }
    }
}
