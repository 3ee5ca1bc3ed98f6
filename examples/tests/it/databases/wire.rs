//! A little of the protocols themselves, for what no client at hand does.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::servers::Kind;

/// Long password, connect with a database, version 4.1, secure connection, plugins.
const CAN: u32 = 1 | 1 << 3 | 1 << 9 | 1 << 15 | 1 << 19;

/// A client of MySQL's protocol that knows enough to log in.
struct Client(std::net::TcpStream);

impl Client {
    fn log_in(port: SocketAddr, user: &str, password: &str) -> Self {
        let mut client = Self(std::net::TcpStream::connect(port).unwrap());
        let (_, greeting) = client.packet();
        let challenge = challenge(&greeting);
        let proof = proof(&challenge, password);
        let mut body = CAN.to_le_bytes().to_vec();
        body.extend([0, 0, 0, 1, 45]);
        body.extend([0; 23]);
        body.extend([user.as_bytes(), &[0, 20], &proof, b"shop\0mysql_native_password\0"].concat());
        client.send(1, &body);
        let (_, answer) = client.packet();
        assert_eq!(answer.first(), Some(&0), "{}", String::from_utf8_lossy(&answer));
        client
    }

    fn send(&mut self, number: u8, body: &[u8]) {
        let [a, b, c, _] = u32::try_from(body.len()).unwrap().to_le_bytes();
        self.0.write_all(&[&[a, b, c, number], body].concat()).unwrap();
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).unwrap();
        let [a, b, c, number] = head;
        let mut body = vec![0; usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (number, body)
    }

    /// Packets up to an end of a list.
    fn list(&mut self) -> usize {
        let ends = |body: &[u8]| body.first() == Some(&0xfe) && body.len() < 9;
        std::iter::repeat_with(|| self.packet().1).take_while(|body| !ends(body)).count()
    }
}

/// What a greeting asks to be proved: its two parts.
fn challenge(greeting: &[u8]) -> Vec<u8> {
    let text = greeting.iter().position(|byte| *byte == 0).unwrap();
    let first = text + 5;
    let second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10;
    [&greeting[first..first + 8], &greeting[second..second + 12]].concat()
}

/// `SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password)))`.
fn proof(challenge: &[u8], password: &str) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        digest.as_ref().to_vec()
    };
    let once = sha1(password.as_bytes());
    let mask = sha1(&[challenge, &sha1(&once)].concat());
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// Prepares a statement and runs it with a number and a text; how many rows came.
pub(super) fn prepared(port: SocketAddr, user: &str, password: &str) -> usize {
    let mut client = Client::log_in(port, user, password);
    client.send(0, b"\x16select b from t where a = ? and b <> ?");
    let (_, answer) = client.packet();
    assert_eq!(answer.first(), Some(&0), "{answer:?}");
    // Descriptions of the parameters, and of the column.
    assert_eq!((client.list(), client.list()), (2, 1));
    let values = [&[0, 1, 3, 0, 0xfd, 0][..], &2_i32.to_le_bytes(), b"\x04it's"].concat();
    client.send(0, &[&[0x17], &answer[1..5], &[0, 1, 0, 0, 0], &values].concat());
    assert_eq!(client.packet().1, [1], "one column");
    assert_eq!(client.list(), 1);
    client.list()
}

/// Asks to be somebody else after the login; what is said to that.
pub(super) fn change_user(port: SocketAddr, (user, password): (&str, &str), other: &str) -> String {
    let mut client = Client::log_in(port, user, password);
    client.send(0, b"\x0e");
    assert_eq!(client.packet().1.first(), Some(&0), "a ping");
    client.send(0, &[b"\x11", other.as_bytes(), b"\0\0shop\0\x2d\0mysql_native_password\0"].concat());
    let (number, answer) = client.packet();
    assert_eq!((number, answer.first()), (1, Some(&0xff)), "{answer:?}");
    let mut rest = Vec::new();
    assert_eq!(client.0.read_to_end(&mut rest).map_or(0, |count| count), 0, "nothing more comes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What is no protocol of a database's.
pub(super) fn odd_bytes() -> Vec<u8> {
    b"\x01\x02 what is this? \xff\xfe".repeat(50)
}

/// A server that begins as it should, and then takes what comes to its end and says it back.
pub(super) async fn odd_server(kind: Kind) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        match kind {
            Kind::Postgres => {
                let mut startup = vec![0; START.len()];
                stream.read_exact(&mut startup).await.unwrap();
                assert_eq!(startup, START);
            }
            Kind::MariaDb => {
                stream.write_all(&packet(0, &greeting())).await.unwrap();
                let mut head = [0; 4];
                stream.read_exact(&mut head).await.unwrap();
                let mut response = vec![0; usize::from(head[0])];
                stream.read_exact(&mut response).await.unwrap();
                stream.write_all(&packet(2, &[0, 0, 0, 2, 0, 0, 0])).await.unwrap();
            }
        }
        let mut got = vec![0; odd_bytes().len()];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
        // So that what begins badly next finds somebody.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if kind == Kind::MariaDb {
                    stream.write_all(&packet(0, &greeting())).await.unwrap_or_default();
                }
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.map(drop).unwrap_or_default();
            }
        });
        got
    });
    (address, heard)
}

const START: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0bob\0\0\0";

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).unwrap(), 0, 0, number], body].concat()
}

fn greeting() -> Vec<u8> {
    let [a, b, c, d] = CAN.to_le_bytes();
    let parts: [&[u8]; 6] =
        [b"\x0aodd\0", &[9; 13], &[a, b, 45, 2, 0, c, d, 21], &[0; 10], b"123456789012\0", b"mysql_native_password\0"];
    parts.concat()
}

/// Begins as a client does, sends what is odd, and waits for it to come back.
pub(super) async fn odd_client(stream: &mut TcpStream, kind: Kind) {
    match kind {
        Kind::Postgres => stream.write_all(START).await.unwrap(),
        Kind::MariaDb => {
            let mut hello = vec![0; packet(0, &greeting()).len()];
            stream.read_exact(&mut hello).await.unwrap();
            let body = [CAN.to_le_bytes().as_slice(), &[0; 28], b"bob\0\0shop\0mysql_native_password\0"].concat();
            stream.write_all(&packet(1, &body)).await.unwrap();
            let mut answer = [0; 11];
            stream.read_exact(&mut answer).await.unwrap();
        }
    }
    stream.write_all(&odd_bytes()).await.unwrap();
    let mut back = vec![0; odd_bytes().len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, odd_bytes());
}

/// What is said to a client that does not begin as one.
pub(super) async fn refused(port: SocketAddr, kind: Kind) -> String {
    let mut stream = TcpStream::connect(port).await.unwrap();
    let odd = match kind {
        Kind::Postgres => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Kind::MariaDb => packet(1, b"GET / HTTP/1.1\r\n\r\n"),
    };
    stream.write_all(&odd).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}
