//! The agent's one link: dialed for ever, logged in by the control key, kept alive both ways.

use std::sync::Arc;
use std::time::Duration;

use bz_core::grant::Pins;
use bz_core::key::Signature;
use bz_protocol::carrier::{Link, LinkError, Stream};
use bz_protocol::control::{AgentHello, FromServer, LINK_VERSIONS, Order, Orders, Preamble, SignedOrder, ToServer};
use bz_protocol::driver::{random, sleep_until};
use bz_protocol::limits::HANDSHAKE;
use bz_protocol::link::{Conversation, Linked, Ways, receive};
use tokio::task::JoinSet;

use crate::agent::Context;
use crate::backend::Closing;

/// The longest wait between two attempts.
const SLOWEST: Duration = Duration::from_secs(60);
/// A link that stood this long was a good one: the next attempt is immediate.
const GOOD: Duration = Duration::from_secs(60);

/// Dials for ever.
pub(crate) async fn run(context: Arc<Context>, ways: Ways) {
    let mut failures = 0;
    let mut orders = Orders::new(context.identity.identity_key.public(), context.boot);
    loop {
        let began = context.clock.now().mono;
        let error = serve(&context, &ways, &mut orders).await;
        context.link.send_replace(None);
        let stood = context.clock.now().mono.since(began);
        failures = if stood >= GOOD { 0 } else { failures + 1 };
        let wait = backoff(failures, random().unwrap_or([255; 2]));
        tracing::info!(%error, wait_ms = wait.as_millis(), "no link to the server; dialing again");
        let at = context.clock.now().mono.after(wait);
        sleep_until(context.clock.as_ref(), Some(at)).await;
    }
}

/// Full jitter: anywhere between nothing and one second, doubled with each failure, at most [`SLOWEST`].
fn backoff(failures: u32, random: [u8; 2]) -> Duration {
    let ceiling = Duration::from_secs(1).saturating_mul(1 << failures.saturating_sub(1).min(6)).min(SLOWEST);
    if failures == 0 { Duration::ZERO } else { ceiling.mul_f64(f64::from(u16::from_be_bytes(random)) / 65536.0) }
}

/// One link from dialing to its end; says why it ended.
async fn serve(context: &Arc<Context>, ways: &Ways, orders: &mut Orders) -> LinkError {
    match open(context, ways).await {
        Ok(Linked { carrier, link, control }) => {
            tracing::info!(carrier, "linked to the server");
            let began = context.clock.now().mono;
            context.link.send_replace(Some(Arc::clone(&link)));
            let error = hold(context, link.as_ref(), control, orders).await;
            link.close();
            ways.ended(carrier, context.clock.now().mono.since(began));
            error
        }
        Err(error) => error,
    }
}

async fn open(context: &Context, ways: &Ways) -> Result<Linked, LinkError> {
    let hailed = ways.hail(context.identity.organization).await?;
    let hello = AgentHello {
        versions: LINK_VERSIONS.to_vec(),
        target: context.identity.target,
        boot: context.boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        routes: context.routes.values().map(|r| r.route.clone()).collect(),
        proof: Signature::from_bytes([0; 64]),
    };
    Ok(hailed.agent(hello, &context.identity.control_key).await?)
}

async fn hold(context: &Arc<Context>, link: &dyn Link, control: Box<dyn Stream>, orders: &mut Orders) -> LinkError {
    let mut server = Conversation::<FromServer, ToServer>::new(control, ToServer::Ping, Arc::clone(&context.clock));
    let mut streams = JoinSet::new();
    let mut shells = context.backends.reports();
    loop {
        tokio::select! {
            message = server.next() => match message {
                Ok(FromServer::Order(order)) => obey(context, orders, &order),
                Ok(_) => {}
                Err(error) => return error,
            },
            stream = link.accept() => match stream {
                Ok(stream) => {
                    let context = Arc::clone(context);
                    streams.spawn(async move { accept(&context, stream).await });
                }
                Err(error) => return error,
            },
            // Where no shells are served there is nothing to wait for.
            Ok(()) = shells.changed() => {
                let reports = shells.borrow_and_update().clone();
                if let Err(error) = server.say(&ToServer::Shells(reports)).await {
                    return error;
                }
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

fn obey(context: &Context, orders: &mut Orders, signed: &SignedOrder) {
    let bundle = &context.bundle;
    let pins = Pins { organization: bundle.organization, roots: &bundle.roots, now: context.clock.now().wall };
    match orders.hear(signed, &pins) {
        Ok(Order::Close { connection }) => {
            context.sessions.close(connection, Closing::ForGood);
            context.backends.hang_up(connection);
        }
        Ok(Order::Detach { connection }) => {
            context.sessions.close(connection, Closing::Session);
        }
        Err(error) => tracing::warn!(%error, "an order was not obeyed"),
    }
}

async fn accept(context: &Arc<Context>, mut stream: Box<dyn Stream>) {
    let preamble = tokio::time::timeout(HANDSHAKE, receive::<_, Preamble>(&mut stream)).await;
    match preamble {
        Ok(Ok(Preamble::Session { connection })) => crate::session::carrier(context, connection, stream).await,
        Ok(Ok(Preamble::Issuer { .. } | Preamble::Segment { .. })) => {
            tracing::warn!("the server opened a stream that only agents open");
        }
        Ok(Err(error)) => tracing::debug!(%error, "a stream without a preamble"),
        Err(_) => tracing::debug!("a stream whose preamble did not come in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Agents that lost one server at one moment come back spread out, each later after each failure, never rarer than
    /// once a minute.
    #[test]
    fn waits_grow_to_a_minute_and_are_spread_from_nothing() {
        let check = |failures: u32, random: u16, millis: u64| {
            let wait = backoff(failures, random.to_be_bytes());
            assert_eq!(wait, Duration::from_millis(millis), "after {failures} failures with {random:#x}");
        };
        check(0, u16::MAX, 0);
        for (failures, half) in [(1, 500), (2, 1000), (3, 2000), (6, 16_000), (7, 30_000), (u32::MAX, 30_000)] {
            check(failures, 0, 0);
            check(failures, 0x8000, half);
            assert!(backoff(failures, [255; 2]) < Duration::from_millis(2 * half));
        }
    }
}
