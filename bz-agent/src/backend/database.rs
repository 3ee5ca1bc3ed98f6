//! Connections to one database: TLS to it where the request says so, and no login as anybody else than the user that the
//! grant names, where it names one.
//!
//! The agent knows no more of the protocols than how they begin: it ends the client's own request for TLS, makes one of
//! its own, and checks the name of who logs in. Passwords pass through. Everything after the login is carried, not read;
//! only MySQL's command that changes the user is looked for, and only where the grant names one.
//!
//! **Absent:** an account of the agent's own at any database.

mod mysql;
mod postgres;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bz_core::access::destination::{Destination, Host};
use bz_core::access::request::Parameters;
use bz_core::access::upstream::{DatabaseRequest, Wire};
use bz_core::id::ConnectionId;
use bz_protocol::driver::{Opening, SessionStream};
use bz_protocol::frame::Fin;
use bz_protocol::gate::Admitted;
use bz_protocol::refusal::Code;
use bz_protocol::stream::{StreamRequest, Why};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::Context;
use crate::backend::database::upstream::{Held, Tls};
use crate::backend::{Io, dial, reach};

/// How long a database may take to say whether it speaks TLS, and to speak it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How a session's database is to be spoken to.
#[derive(Debug)]
struct Way {
    wire: Wire,
    destination: Destination,
    tls: Option<Tls>,
    /// As whom alone somebody may log in.
    user: Option<String>,
    /// TLS failed when a client could only be told in its own protocol.
    doubted: AtomicBool,
}

/// A connection that is ready for the client's login.
enum Ready {
    Postgres(Held),
    Mysql(mysql::Greeted),
}

/// Serves a session's connections until its client ends it.
pub(super) async fn run(
    context: &Arc<Context>,
    connection: ConnectionId,
    admitted: &Admitted,
    io: &mut Io,
) -> Result<Fin, Code> {
    let Parameters::Database(database) = &admitted.request().parameters else { return Err(Code::Malformed) };
    let user = admitted.request().user.as_ref().map(|user| user.as_str().to_owned());
    let way = Arc::new(Way::new(context, database, user).ok_or(Code::Unavailable)?);
    let served = dial::each(connection, io, |opening| {
        serve(Arc::clone(context), connection, (admitted.clone(), Arc::clone(&way)), opening)
    });
    Ok(served.await)
}

async fn serve(
    context: Arc<Context>,
    connection: ConnectionId,
    (admitted, way): (Admitted, Arc<Way>),
    opening: Opening,
) {
    let wanted = StreamRequest::Dial(way.destination.clone());
    if *opening.request() != wanted {
        return opening.refuse(Why::NotAllowed);
    }
    match ready(&context, &admitted, &way).await {
        Ok((ready, at)) => {
            tracing::info!(%connection, destination = %way.destination, %at, "stream opened");
            let here = opening.accept(at.to_string());
            if let Err(error) = carry(here, ready, &way).await {
                tracing::info!(%connection, destination = %way.destination, %error, "stream ended early");
            }
        }
        Err(why) => {
            tracing::info!(%connection, destination = %way.destination, %why, "stream refused");
            opening.refuse(why);
        }
    }
}

async fn ready(context: &Context, admitted: &Admitted, way: &Way) -> Result<(Ready, SocketAddr), Why> {
    let (mut there, mut at) = reach::dial(context, admitted, &way.destination).await?;
    if let (Some(tls), true) = (&way.tls, way.doubted.load(Ordering::Relaxed)) {
        // Whether it is mended takes a connection of its own; if not, the opening says so.
        tokio::time::timeout(PATIENCE, mysql::proved(there, tls)).await.map_err(|_| Why::TimedOut)??;
        way.doubted.store(false, Ordering::Relaxed);
        (there, at) = reach::dial(context, admitted, &way.destination).await?;
    }
    // What cannot be set will not be missed.
    there.set_nodelay(true).unwrap_or_default();
    let begun = tokio::time::timeout(PATIENCE, way.begin(there)).await;
    Ok((begun.map_err(|_| Why::TimedOut)??, at))
}

async fn carry(here: SessionStream, ready: Ready, way: &Way) -> io::Result<()> {
    let user = way.user.as_deref();
    match ready {
        Ready::Postgres(there) => postgres::carry(here, there, user).await,
        Ready::Mysql(greeted) => mysql::carry(here, greeted, (way, user)).await,
    }
}

impl Way {
    fn new(context: &Context, database: &DatabaseRequest, user: Option<String>) -> Option<Self> {
        let name = match database.destination.host() {
            Host::Name(name) => name,
            Host::Address(address) => address.to_string(),
        };
        let tls = match (database.tls, &context.backends.upstream_tls) {
            (false, _) => None,
            (true, Some(config)) => Some(Tls::new(config, name)?),
            (true, None) => return None,
        };
        Some(Self {
            wire: database.wire,
            destination: database.destination.clone(),
            tls,
            user,
            doubted: AtomicBool::new(false),
        })
    }

    /// As far as it goes before the client says anything.
    async fn begin(&self, there: TcpStream) -> Result<Ready, Why> {
        match self.wire {
            Wire::Postgres => postgres::begin(there, self.tls.as_ref()).await.map(Ready::Postgres),
            Wire::Mysql => mysql::greeted(there, self.tls.is_some()).await.map(Ready::Mysql),
            // Nothing is known of it, and so it is another back end's.
            Wire::Plain => Err(Why::Unavailable),
        }
    }
}

/// Ends a connection after a last word, which is thrown away when the client is not waited for.
async fn end<S: AsyncRead + AsyncWrite + Unpin>(mut here: S) -> io::Result<()> {
    here.shutdown().await?;
    let rest = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut here, &mut tokio::io::sink())).await;
    // Whoever stays for longer is cut.
    rest.map_or(Ok(()), |copied| copied.map(drop))
}

/// What a login as somebody else is told.
fn other_user(granted: &str) -> String {
    format!("this connection is for the database user {granted} alone: log in as {granted}, or ask for another one")
}
