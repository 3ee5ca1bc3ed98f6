//! Two ends in one process.

use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc};

use crate::carrier::{Boxed, Carrier, Class, Link, LinkError, Stream};

/// Bytes of a stream under way.
const BUFFER: usize = 256 << 10;
/// Streams opened and not yet accepted.
const BACKLOG: usize = 64;

#[derive(Debug)]
struct MemoryLink {
    open: std::sync::Mutex<Option<mpsc::Sender<DuplexStream>>>,
    accept: Mutex<mpsc::Receiver<DuplexStream>>,
}

/// The two ends of a link.
#[must_use]
pub fn memory_pair() -> (Arc<dyn Link>, Arc<dyn Link>) {
    let (a, from_b) = mpsc::channel(BACKLOG);
    let (b, from_a) = mpsc::channel(BACKLOG);
    let link = |open, accept| {
        Arc::new(MemoryLink { open: std::sync::Mutex::new(Some(open)), accept: Mutex::new(accept) }) as Arc<dyn Link>
    };
    (link(b, from_b), link(a, from_a))
}

impl Link for MemoryLink {
    fn open(&self, _class: Class) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let sender = self.open.lock().ok().and_then(|open| open.clone()).ok_or_else(closed)?;
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            sender.send(theirs).await.map_err(|_| closed())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn accept(&self) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let stream = self.accept.lock().await.recv().await.ok_or_else(closed)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn close(&self) {
        if let Ok(mut open) = self.open.lock() {
            *open = None;
        }
        if let Ok(mut accept) = self.accept.try_lock() {
            accept.close();
        }
    }
}

/// Dials a listener in the same process.
#[derive(Debug, Clone)]
pub struct MemoryCarrier {
    listener: mpsc::Sender<Arc<dyn Link>>,
}

impl MemoryCarrier {
    /// The carrier and where its links arrive.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Arc<dyn Link>>) {
        let (listener, links) = mpsc::channel(BACKLOG);
        (Self { listener }, links)
    }
}

impl Carrier for MemoryCarrier {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let (ours, theirs) = memory_pair();
            self.listener.send(theirs).await.map_err(|_| closed())?;
            Ok(ours)
        })
    }
}

fn closed() -> LinkError {
    LinkError("the other end closed it".to_owned())
}

impl std::fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}
