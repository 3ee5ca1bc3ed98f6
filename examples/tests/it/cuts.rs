//! Real sockets, cut a hundred times while bytes go both ways: nothing lost, nothing twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bz_agent::helper::Helper;
use bz_agent::user::User;
use bz_core::access::request::Parameters;
use bz_examples::world::{TARGET, Way, World};
use bz_protocol::carrier::Ws;
use bz_protocol::client::{Action, Event};
use bz_protocol::control::LINK_PATH;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::logged::Logged;

const CUTS: usize = 100;
/// Enough for what a session has under way at each cut.
const BYTES: usize = 64 << 20;
const CHUNK: usize = 32 << 10;

/// A relay of TCP connections that cuts all of them at each change of `cut`.
async fn shears(to: SocketAddr, cut: watch::Receiver<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    copied = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(copied),
                    changed = cut.changed() => drop(changed),
                }
            });
        }
    });
    address
}

/// A byte for each place, so that a lost, doubled or moved one shows.
fn pattern(at: usize) -> u8 {
    u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()
}

/// PR-RESUME-1 (H4), T10: a session's bytes are exact after its connections were cut a hundred times.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_exact_after_a_hundred_cuts() {
    let _logged = Logged::here();
    let folder = tempfile::tempdir().unwrap();
    let user = User::current().unwrap().name;
    let world = World::start(folder.path(), Helper::at(env!("CARGO_BIN_EXE_helper")), &user, Way::Ws).await.unwrap();
    let (cutter, cut) = watch::channel(0);
    let address = shears(world.server.local_addr(), cut).await;
    let url = format!("wss://{address}{LINK_PATH}").parse().unwrap();
    let client = world.client.clone().with_carrier(Arc::new(Ws::new(url, Arc::clone(&world.tls))));
    let parameters = Parameters::Exec { command: "cat".to_owned() };
    let asked = client.ask(&format!("{user}@{TARGET}").parse().unwrap(), parameters, None).await.unwrap();
    let mut session = client.session(asked).await.unwrap();

    let actions = session.actions();
    let typing = tokio::spawn(async move {
        for from in (0..BYTES).step_by(CHUNK) {
            let bytes = (from..from + CHUNK).map(pattern).collect();
            actions.act(Action::Bytes { stream: 0, bytes }).await.unwrap();
        }
        actions.act(Action::Eof { stream: 0 }).await.unwrap();
    });
    let (mut received, mut cuts, mut next, mut resumed) = (0, 0, 0, 0);
    let read = async {
        while let Some(event) = session.next().await {
            match event {
                Event::Bytes { bytes, .. } => {
                    for byte in bytes {
                        assert_eq!(byte, pattern(received), "byte {received} after {cuts} cuts");
                        received += 1;
                    }
                    if cuts < CUTS && resumed == cuts && received >= next {
                        cuts += 1;
                        // Anywhere within a chunk or two, never the same place twice.
                        next = received + (cuts * 7919) % (2 * CHUNK);
                        cutter.send_replace(cuts);
                    }
                }
                Event::Resumed => resumed += 1,
                Event::Ended(end) => return end,
                Event::Opened(_)
                | Event::Eof { .. }
                | Event::Answered { .. }
                | Event::Reset { .. }
                | Event::Notice(_) => {}
            }
        }
        panic!("a session that does not say its end");
    };
    let end = tokio::time::timeout(Duration::from_secs(120), read).await.expect("it comes to an end");
    typing.await.unwrap();
    assert_eq!((received, cuts, end), (BYTES, CUTS, End::Completed(Fin::Exited(0))));
    assert_eq!(resumed, CUTS, "each cut was felt");
    world.stop().await;
}
