//! Segments: an agent goes on with the record of a shell that nobody is attached to.

use std::sync::Arc;

use bz_core::id::{ConnectionId, TargetId};
use bz_protocol::carrier::{LinkError, Stream, read_message};
use bz_protocol::frame::Fin;
use bz_protocol::limits::{HANDSHAKE, MAX_PACKET};
use bz_protocol::link::send;
use bz_protocol::segment::{FromAgent, FromServer};
use tokio::io::{AsyncRead, AsyncWriteExt as _};

use crate::app::App;
use crate::connection::life::By;
use crate::connection::link::{closed, segment_of};
use crate::record::{Carrier, Unrecorded};

/// Takes a segment to its end.
pub(super) async fn take(app: &Arc<App>, (target, connection): (TargetId, ConnectionId), stream: Box<dyn Stream>) {
    if let Err(error) = follow(app, (target, connection), stream).await {
        tracing::info!(%connection, %error, "a segment was not taken to its end");
    }
}

/// Closes a connection whose shell ended.
async fn over(app: &App, connection: ConnectionId, fin: &Fin) {
    let why = match fin {
        Fin::Exited(code) => format!("it exited with {code}"),
        Fin::Signaled(signal) => format!("signal {signal} ended it"),
        // Somebody attached.
        Fin::Detached | Fin::Closed | Fin::Done => return,
    };
    if let Err(error) = closed(app, connection, &By::Service, &why).await {
        tracing::error!(%connection, %error, "a connection whose shell ended could not be closed");
    }
}

async fn follow(
    app: &Arc<App>,
    (target, connection): (TargetId, ConnectionId),
    mut stream: Box<dyn Stream>,
) -> Result<(), LinkError> {
    let fail = |error: Unrecorded| LinkError(error.to_string());
    let (known, ends) = segment_of(app, target, connection).await.map_err(|e| LinkError(e.to_string()))?;
    let first = tokio::time::timeout(HANDSHAKE, heard(&mut stream)).await;
    let Ok(Ok(Some(FromAgent::Opening(opening)))) = first else {
        return Err(LinkError("a segment without an opening".to_owned()));
    };
    let record = Carrier::segment(Arc::clone(app), known, ends, &opening).await.map_err(fail)?;
    let cut_off = || record.cut_off("the segment was cut off");
    let (mut frames, mut ended): (u64, bool) = (0, false);
    loop {
        let frame = match heard(&mut stream).await {
            Ok(Some(FromAgent::Frame(frame))) => frame,
            Ok(None) => {
                cut_off();
                return stream.shutdown().await.map_err(|e| LinkError(e.to_string()));
            }
            Ok(Some(FromAgent::Opening(_))) => {
                cut_off();
                return Err(LinkError("a segment with two openings".to_owned()));
            }
            Err(error) => {
                cut_off();
                return Err(error);
            }
        };
        if let Err(error) = record.frame(&frame).await {
            record.cut_off(&error.to_string());
            return Err(fail(error));
        }
        // Before the agent hears that its end is recorded, and forgets the shell.
        if let Some(fin) = record.fin().filter(|_| !ended) {
            ended = true;
            over(app, connection, &fin).await;
        }
        frames = frames.saturating_add(1);
        if let Err(error) = send(&mut stream, &FromServer::Recorded(frames)).await {
            cut_off();
            return Err(error);
        }
    }
}

async fn heard<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<FromAgent>, LinkError> {
    let bytes = read_message(stream, MAX_PACKET).await.map_err(|e| LinkError(e.to_string()))?;
    bytes.map(|bytes| FromAgent::decode(&bytes).map_err(|e| LinkError(e.to_string()))).transpose()
}
