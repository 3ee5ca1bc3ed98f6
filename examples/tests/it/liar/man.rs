//! A man in the middle: what a lying server can do, at either end of it. He reads every packet of every session and
//! changes, doubles, withholds and invents what he likes; keys he has none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bz_core::id::ConnectionId;
use bz_protocol::carrier::{Boxed, Carrier, Class, Link, LinkError, Stream, read_message, write_message};
use bz_protocol::control::Preamble;
use bz_protocol::keys::Direction;
use bz_protocol::limits::MAX_PACKET;
use bz_protocol::link::send;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// More than any packet.
const BUFFER: usize = 1 << 20;

/// What he does with a packet.
#[derive(Debug)]
pub(crate) enum Act {
    /// Lets these pass instead.
    Pass(Vec<Vec<u8>>),
    /// Ends the stream, both ways.
    Cut,
}

type Lie = Box<dyn FnMut(Direction, &[u8]) -> Act + Send>;

/// At which end of the server he stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Client,
    Agent,
}

/// He carries like the carrier he took the place of.
#[derive(Clone)]
pub(crate) struct Man {
    carrier: Arc<dyn Carrier>,
    at: At,
    mind: Arc<Mind>,
    own: mpsc::Sender<DuplexStream>,
    to_accept: Arc<tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>>,
}

struct Mind {
    lie: Mutex<Lie>,
    seen: Mutex<Vec<(Direction, Vec<u8>)>>,
}

impl Man {
    pub(crate) fn new(carrier: &Arc<dyn Carrier>, at: At) -> Self {
        let (own, to_accept) = mpsc::channel(4);
        let mind = Mind { lie: Mutex::new(Box::new(pass)), seen: Mutex::default() };
        let to_accept = Arc::new(tokio::sync::Mutex::new(to_accept));
        Self { carrier: Arc::clone(carrier), at, mind: Arc::new(mind), own, to_accept }
    }

    /// From now on he does this, and remembers what he sees.
    pub(crate) fn lies(&self, lie: impl FnMut(Direction, &[u8]) -> Act + Send + 'static) {
        *self.mind.lie.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(lie);
        self.mind.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn is_honest(&self) {
        self.lies(pass);
    }

    /// Everything that went one way since he last changed his mind.
    pub(crate) fn seen(&self, direction: Direction) -> Vec<Vec<u8>> {
        let seen = self.mind.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(way, _)| *way == direction).map(|(_, packet)| packet.clone()).collect()
    }

    /// Opens a stream of his own to the agent and says this; what the agent answers first, if anything.
    pub(crate) async fn says(&self, connection: ConnectionId, packet: &[u8]) -> Option<Vec<u8>> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        self.own.send(theirs).await.expect("the agent has a link");
        let mut stream: Box<dyn Stream> = Box::new(ours);
        send(&mut stream, &Preamble::Session { connection }).await.unwrap();
        write_message(&mut stream, packet).await.unwrap();
        read_message(&mut stream, MAX_PACKET).await.unwrap()
    }
}

fn pass(_: Direction, packet: &[u8]) -> Act {
    Act::Pass(vec![packet.to_vec()])
}

impl Carrier for Man {
    fn name(&self) -> &'static str {
        self.carrier.name()
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let link = self.carrier.dial().await?;
            Ok(Arc::new(Middle { link, man: self.clone(), is_controlled: AtomicBool::new(false) }) as Arc<dyn Link>)
        })
    }
}

struct Middle {
    link: Arc<dyn Link>,
    man: Man,
    is_controlled: AtomicBool,
}

impl Link for Middle {
    fn open(&self, class: Class) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let stream = self.link.open(class).await?;
            // The first is the control stream; an agent opens no sessions.
            let plain = !self.is_controlled.swap(true, Ordering::SeqCst) || self.man.at == At::Agent;
            Ok(if plain { stream } else { self.man.between(stream) })
        })
    }

    fn accept(&self) -> Boxed<'_, Result<Box<dyn Stream>, LinkError>> {
        Box::pin(async move {
            let own = async { self.man.to_accept.lock().await.recv().await };
            tokio::select! {
                Some(own) = own => Ok(Box::new(own) as Box<dyn Stream>),
                stream = self.link.accept() => Ok(self.man.between(stream?)),
            }
        })
    }

    fn close(&self) {
        self.link.close();
    }
}

impl Man {
    /// Stands between a stream and the end that uses it.
    fn between(&self, far: Box<dyn Stream>) -> Box<dyn Stream> {
        let (near, ours) = tokio::io::duplex(BUFFER);
        let outward = if self.at == At::Client { Direction::ToAgent } else { Direction::ToClient };
        let mind = Arc::clone(&self.mind);
        tokio::spawn(async move {
            let (from_far, to_far) = tokio::io::split(far);
            let (from_near, to_near) = tokio::io::split(ours);
            let inward = mind.carry(outward.reverse(), from_far, to_near);
            let outward = mind.carry(outward, from_near, to_far);
            // One that was cut cuts the other; one that came to its end does not.
            let (inward, outward) = (std::pin::pin!(inward), std::pin::pin!(outward));
            drop(futures::future::try_join(inward, outward).await);
        });
        Box::new(near)
    }
}

struct WasCut;

impl Mind {
    /// Until this direction ends, whoever ends it: what goes the other way is still under way then.
    async fn carry<R, W>(&self, direction: Direction, mut from: R, mut to: W) -> Result<(), WasCut>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut is_preamble = direction == Direction::ToAgent;
        while let Ok(Some(packet)) = read_message(&mut from, MAX_PACKET).await {
            let act =
                if std::mem::take(&mut is_preamble) { pass(direction, &packet) } else { self.act(direction, &packet) };
            let Act::Pass(packets) = act else { return Err(WasCut) };
            let write = async {
                for packet in packets {
                    write_message(&mut to, &packet).await?;
                }
                to.flush().await
            };
            let written: std::io::Result<()> = write.await;
            if written.is_err() {
                return Ok(());
            }
        }
        to.shutdown().await.unwrap_or_default();
        Ok(())
    }

    fn act(&self, direction: Direction, packet: &[u8]) -> Act {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((direction, packet.to_vec()));
        self.lie.lock().unwrap_or_else(PoisonError::into_inner)(direction, packet)
    }
}
