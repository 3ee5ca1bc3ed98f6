//! Links over QUIC, on the UDP port of the same number.
//!
//! A server without it is whole: every client also has WebSocket, so a port that cannot be had is told and no more.

use std::net::SocketAddr;
use std::sync::Arc;

use bz_protocol::carrier::{QuicCaller, QuicListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::MOST;
use crate::app::App;
use crate::relay::Relay;
use crate::tls::{self, TlsError};

/// QUIC's way in.
#[derive(Debug)]
pub(super) struct QuicDoor {
    pub(super) relay: Arc<Relay>,
    pub(super) stop: CancellationToken,
    pub(super) end: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// The listener, where the settings want one and the port can be had.
pub(super) fn listen(app: &App, local: SocketAddr) -> Result<Option<QuicListener>, TlsError> {
    let Some(certificates) = &app.certificates else { return Ok(None) };
    if !app.config().quic {
        return Ok(None);
    }
    match QuicListener::bind(local, tls::server(Arc::clone(certificates))?) {
        Ok(listener) => {
            tracing::info!(local = %listener.local_addr(), "listening for QUIC");
            Ok(Some(listener))
        }
        Err(error) => {
            tracing::warn!(%local, %error, "no QUIC: the UDP port cannot be had; links use WebSocket alone");
            Ok(None)
        }
    }
}

impl QuicDoor {
    pub(super) async fn accept(self, listener: QuicListener) {
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            let caller = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.end.cancelled() => return,
                caller = listener.accept() => caller,
            };
            let Some(caller) = caller else {
                tracing::error!("the UDP socket is gone; links use WebSocket alone");
                return;
            };
            // Dropping a caller refuses it.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (relay, end) = (Arc::clone(&self.relay), self.end.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = welcome(relay, caller) => {}
                }
                drop(place);
            });
        }
    }
}

async fn welcome(relay: Arc<Relay>, caller: QuicCaller) {
    let peer = caller.peer();
    match caller.link().await {
        Ok(link) => relay.serve(link).await,
        Err(error) => tracing::debug!(%error, %peer, "a QUIC handshake failed"),
    }
}
