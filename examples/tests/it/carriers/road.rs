//! Roads to a server that a test can block, cut, or let swallow what is sent; and an HTTP proxy.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// What becomes of connections that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Cut,
    Swallow,
}

/// Forwards TCP connections.
pub(super) struct Streams {
    pub(super) address: SocketAddr,
    fate: watch::Sender<Fate>,
    /// Connections that pass what is sent.
    passing: watch::Sender<usize>,
    blocked: Arc<AtomicBool>,
}

impl Streams {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fate, watched) = watch::channel(Fate::Pass);
        let passing = watch::Sender::new(0);
        let counted = passing.clone();
        let blocked = Arc::new(AtomicBool::new(false));
        let is_blocked = Arc::clone(&blocked);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut fate = watched.clone();
                // What befell older ones is not for this one.
                fate.mark_unchanged();
                if !is_blocked.load(Ordering::Acquire) {
                    tokio::spawn(forward(near, server, (fate, counted.clone())));
                }
            }
        });
        Self { address, fate, passing, blocked }
    }

    /// New connections are cut at once.
    pub(super) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.blocked.store(false, Ordering::Release);
    }

    /// Connections that stand are cut.
    pub(super) fn cut(&self) {
        self.fate.send_replace(Fate::Cut);
    }

    /// Connections that stand stay open, and nothing comes out of them any more.
    pub(super) async fn swallow(&self) {
        self.fate.send_replace(Fate::Swallow);
        // Also the word that the client is about to say: the end of its connection.
        self.passing.subscribe().wait_for(|passing| *passing == 0).await.unwrap();
    }
}

async fn forward(
    mut near: TcpStream,
    server: SocketAddr,
    (mut fate, passing): (watch::Receiver<Fate>, watch::Sender<usize>),
) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    passing.send_modify(|passing| *passing += 1);
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(copied),
        changed = fate.changed() => drop(changed),
    }
    passing.send_modify(|passing| *passing -= 1);
    if *fate.borrow() == Fate::Swallow {
        std::future::pending::<()>().await;
    }
}

/// Forwards datagrams of one client at a time and the answers to them.
pub(super) struct Datagrams {
    pub(super) address: SocketAddr,
    blocked: Arc<AtomicBool>,
}

impl Datagrams {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let blocked = Arc::new(AtomicBool::new(false));
        let is_blocked = Arc::clone(&blocked);
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            let mut known: Option<(SocketAddr, Arc<UdpSocket>)> = None;
            loop {
                let (size, from) = front.recv_from(&mut buffer).await.unwrap();
                if is_blocked.load(Ordering::Acquire) {
                    continue;
                }
                let back = match &known {
                    Some((client, back)) if *client == from => Arc::clone(back),
                    _ => {
                        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                        back.connect(server).await.unwrap();
                        let (front, blocked) = (Arc::clone(&front), Arc::clone(&is_blocked));
                        tokio::spawn(answers(Arc::clone(&back), (front, from), blocked));
                        known = Some((from, Arc::clone(&back)));
                        back
                    }
                };
                // A datagram that cannot be sent is one that was lost.
                drop(back.send(&buffer[..size]).await);
            }
        });
        Self { address, blocked }
    }

    /// Every datagram is lost, both ways.
    pub(super) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.blocked.store(false, Ordering::Release);
    }
}

async fn answers(back: Arc<UdpSocket>, (front, client): (Arc<UdpSocket>, SocketAddr), blocked: Arc<AtomicBool>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(size) = back.recv(&mut buffer).await {
        if !blocked.load(Ordering::Acquire) {
            drop(front.send_to(&buffer[..size], client).await);
        }
    }
}

/// An address whose TCP port is free, and a socket that takes the datagrams to it and never answers.
pub(super) fn swallowed_port() -> (SocketAddr, StdSocket) {
    for _ in 0..100 {
        let tcp = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if let Ok(udp) = StdSocket::bind(address) {
            return (address, udp);
        }
    }
    panic!("no port is free for both TCP and UDP");
}

/// An HTTP proxy that knows one password, connects to one server whatever name is asked for, and tells what was.
pub(super) struct ConnectProxy {
    pub(super) address: SocketAddr,
    connected: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub(super) async fn start(server: SocketAddr, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wanted = format!("basic {}", STANDARD.encode(password));
        let (connected, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, names) = (Arc::clone(&connected), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (wanted, count, names) = (wanted.clone(), Arc::clone(&count), Arc::clone(&names));
                tokio::spawn(async move {
                    let (name, authorization) = head(&mut near).await;
                    if !authorization.eq_ignore_ascii_case(&wanted) {
                        near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                        return;
                    }
                    count.fetch_add(1, Ordering::AcqRel);
                    names.lock().unwrap().push(name);
                    let mut far = TcpStream::connect(server).await.unwrap();
                    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { address, connected, asked }
    }

    /// How many connections it made.
    pub(super) fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// The different names it was asked for.
    pub(super) fn asked_for(&self) -> Vec<String> {
        let mut names = self.asked.lock().unwrap().clone();
        names.sort();
        names.dedup();
        names
    }
}

/// Whom a request is to be connected with, and its `Proxy-Authorization`.
async fn head(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let name = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' ')).expect("a CONNECT").0;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let authorization = lines.find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    (name.to_owned(), authorization.map(|(_, value)| value.to_owned()).unwrap_or_default())
}
