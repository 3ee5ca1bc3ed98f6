//! A carrier of your own, here over a Unix socket: delivery is all it is trusted with.
//!
//! `cargo run -p bz-examples --bin carrier`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use bz_agent::agent::Agent;
use bz_agent::handler::Call;
use bz_agent::helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_core::access::Mode;
use bz_core::api::target::Route;
use bz_examples::world::{Way, World};
use bz_protocol::carrier::{Boxed, Carrier, Link, LinkError, MuxLink, Pipe, Role};
use bz_protocol::limits::MUX_MESSAGE;
use bz_server::relay::Relay;
use futures::TryStreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::LengthDelimitedCodec;

/// Dials a Unix socket.
struct UnixSocket(PathBuf);

impl Carrier for UnixSocket {
    fn name(&self) -> &'static str {
        "unix socket"
    }

    fn dial(&self) -> Boxed<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let stream = UnixStream::connect(&self.0).await.map_err(|e| LinkError(e.to_string()))?;
            Ok(Arc::new(MuxLink::new(Role::Dialer, pipe(stream))) as Arc<dyn Link>)
        })
    }
}

/// A pipe of whole messages: a length before each is enough.
fn pipe(stream: UnixStream) -> impl Pipe {
    LengthDelimitedCodec::builder().max_frame_length(MUX_MESSAGE + 64).new_framed(stream).map_ok(BytesMut::freeze)
}

/// The other end: every connection is a link of the relay.
fn listen(path: &Path, relay: Arc<Relay>) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&relay).serve(Arc::new(MuxLink::new(Role::Listener, pipe(stream)))));
        }
    });
    Ok(())
}

fn main() -> Result<()> {
    let helper = helper::enter();
    tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let world = World::start(folder.path(), helper, &User::current()?.name, Way::Ws).await?;
        let socket = folder.path().join("links");
        listen(&socket, Arc::clone(&world.relay))?;
        let carrier = Arc::new(UnixSocket(socket));
        let route = Route { name: "where".into(), description: "says how it was reached".into(), mode: Mode::Sealed };
        let answer = |mut call: Call| async move { call.stream.write_all(b"over a Unix socket, both ways\n").await };
        let identity = world.register("next-door", "where").await?;
        let keys = IssuerKeys::ThroughLink(world.tls.clone());
        let agent = Agent::new(identity, world.bundle.clone(), carrier.clone(), keys).route(route, answer).start()?;
        agent.online().await;
        let client = world.client.clone().with_carrier(carrier);
        let mut said = String::new();
        client.open(&"next-door".parse()?, "where").await?.read_to_string(&mut said).await?;
        std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes())?;
        agent.stop().await;
        world.stop().await;
        Ok(())
    })
}
