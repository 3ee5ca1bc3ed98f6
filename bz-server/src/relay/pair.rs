//! Pairing: which agent's stream a client's is carried to, and what the end of either means for the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bz_core::id::{ConnectionId, LoginId, TargetId};
use bz_protocol::carrier::{Class, LinkError, Stream};
use bz_protocol::control::{FromServer, Preamble};
use bz_protocol::frame::Fin;
use bz_protocol::limits::HANDSHAKE;
use bz_protocol::link::{receive, send};
use bz_protocol::refusal::Code;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::connection::life::By;
use crate::connection::link::{
    self, agent_for, authorize_link, client_connected, client_disconnected, client_replaced, closed, session_ended,
};
use crate::record::{Carrier, Ends};
use crate::relay::carry::{Ended, carry};
use crate::relay::link::end_the_gone;
use crate::relay::{Pair, Relay};

/// A stream of a client's link: a carrier of one connection's session.
pub(super) async fn from_client(relay: &Arc<Relay>, app: &Arc<App>, login: LoginId, mut stream: Box<dyn Stream>) {
    let preamble = tokio::time::timeout(HANDSHAKE, receive::<_, Preamble>(&mut stream)).await;
    let Ok(Ok(Preamble::Session { connection })) = preamble else {
        tracing::debug!("a client's stream without a connection");
        return;
    };
    if let Err(error) = pair(relay, app, (login, connection), stream).await {
        tracing::info!(%connection, %error, "a stream was not paired");
    }
}

async fn pair(
    relay: &Arc<Relay>,
    app: &Arc<App>,
    (login, connection): (LoginId, ConnectionId),
    client: Box<dyn Stream>,
) -> Result<(), LinkError> {
    let fail = |error: link::LinkError| LinkError(error.to_string());
    let authorized = authorize_link(app, login, connection).await;
    if authorized == Err(link::LinkError::Closed)
        && let Some(reason) = link::why_closed(app, connection).await.map_err(fail)?
    {
        // Its link may have been down when the connection ended: who comes back must not wait for nothing.
        relay.tell(login, &FromServer::Closed { connection, reason });
    }
    let known = authorized.map_err(fail)?;
    let store = |error: crate::store::StoreError| LinkError(error.to_string());
    let (held, user) =
        app.store.login(login).await.map_err(store)?.ok_or_else(|| LinkError("log in again".to_owned()))?;
    let place = agent_for(app, connection).await.map_err(fail)?;
    let agent = open_agent(relay, place.target, connection).await?;
    let end = CancellationToken::new();
    let superseded = Arc::new(AtomicBool::new(false));
    // The older stream of a connection that has two is the session machines' to end.
    let number = {
        let mut table = relay.lock();
        table.next = table.next.wrapping_add(1);
        let number = table.next;
        let pairs = table.pairs.entry(connection).or_default();
        pairs.iter().for_each(|older| older.superseded.store(true, Ordering::Release));
        pairs.push(Pair { number, login, end: end.clone(), superseded: Arc::clone(&superseded) });
        number
    };
    // After it stands in the table: what ends now knows that the connection goes on.
    if let Err(error) = client_connected(app, connection).await {
        forget(relay, connection, number);
        return Err(fail(error));
    }
    let ends = Ends { client_key: held.client_key, agent_key: place.identity_key, issuer: user.person.issuer };
    let carrier = Carrier::new(Arc::clone(app), known, ends);
    let ended = tokio::select! {
        ended = carry(client, agent, &carrier) => ended,
        () = end.cancelled() => Ended::Client,
    };
    let another = forget(relay, connection, number);
    let (fin, refused) = (carrier.fin(), carrier.refused());
    drop(carrier);
    // Also when the younger stream has ended by now: the session was there, not here.
    let goes_on = another || superseded.load(Ordering::Acquire);
    if goes_on && leaves(&ended, fin.as_ref()) {
        // A session that ended, not merely a carrier of one that goes on.
        let replaced = another && fin.is_some();
        return if replaced { client_replaced(app, connection).await.map(drop).map_err(fail) } else { Ok(()) };
    }
    settle(app, connection, ended, (fin, refused)).await.map_err(fail)?;
    // A shell that ended while its client was thought to be there was reported before.
    end_the_gone(relay, app, place.target).await;
    Ok(())
}

/// Whether the connection has another pair of streams: its session goes on there, or another of its person's has taken
/// its place.
fn forget(relay: &Relay, connection: ConnectionId, number: u64) -> bool {
    let mut table = relay.lock();
    let Some(pairs) = table.pairs.get_mut(&connection) else { return false };
    pairs.retain(|pair| pair.number != number);
    let goes_on = !pairs.is_empty();
    if !goes_on {
        table.pairs.remove(&connection);
    }
    goes_on
}

/// Whether an end says no more than that this pair of streams is gone.
const fn leaves(ended: &Ended, fin: Option<&Fin>) -> bool {
    matches!((ended, fin), (Ended::Agent | Ended::Client, Some(Fin::Done | Fin::Detached) | None))
}

async fn open_agent(relay: &Relay, target: TargetId, connection: ConnectionId) -> Result<Box<dyn Stream>, LinkError> {
    let offline = || LinkError("the target is offline".to_owned());
    let link = relay.lock().agents.get(&target).map(|a| Arc::clone(&a.link)).ok_or_else(offline)?;
    let mut stream = link.open(Class::Interactive).await?;
    send(&mut stream, &Preamble::Session { connection }).await?;
    Ok(stream)
}

/// Writes into the log what the end of a stream means.
async fn settle(
    app: &App,
    connection: ConnectionId,
    ended: Ended,
    (fin, refused): (Option<Fin>, Option<Code>),
) -> Result<(), link::LinkError> {
    match (ended, fin) {
        (Ended::Here(why), _) => {
            tracing::warn!(%connection, %why, "a session was ended by the relay");
            closed(app, connection, &By::Service, &why.to_string()).await
        }
        (_, Some(Fin::Exited(code))) => closed(app, connection, &By::Service, &format!("it exited with {code}")).await,
        (_, Some(Fin::Signaled(signal))) => {
            closed(app, connection, &By::Service, &format!("signal {signal} ended it")).await
        }
        (_, Some(Fin::Closed)) => closed(app, connection, &By::Service, "its client closed it").await,
        (_, Some(Fin::Detached)) => {
            client_disconnected(app, connection, "its client left; the shell runs on").await.map(drop)
        }
        // A login that ran out, or an attach that was refused: neither is a shell's end. What the target said last counts,
        // also when its client was gone before its stream was.
        (Ended::Agent, None) | (_, Some(Fin::Done)) if refused != Some(Code::Unavailable) => {
            session_ended(app, connection, "the session ended at the target").await
        }
        (Ended::Agent, None) | (_, Some(Fin::Done)) => {
            closed(app, connection, &By::Service, "the target could not go on with it").await
        }
        (Ended::Client, None) => client_disconnected(app, connection, "its client's link ended").await.map(drop),
    }
}
