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
    match follow(app, (target, connection), stream).await {
        Ok(Some(fin)) => {
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
        Ok(None) => tracing::debug!(%connection, "a segment was cut off"),
        Err(error) => tracing::info!(%connection, %error, "a segment was not taken"),
    }
}

async fn follow(
    app: &Arc<App>,
    (target, connection): (TargetId, ConnectionId),
    mut stream: Box<dyn Stream>,
) -> Result<Option<Fin>, LinkError> {
    let fail = |error: Unrecorded| LinkError(error.to_string());
    let (known, ends) = segment_of(app, target, connection).await.map_err(|e| LinkError(e.to_string()))?;
    let first = tokio::time::timeout(HANDSHAKE, heard(&mut stream)).await;
    let Ok(Ok(Some(FromAgent::Opening(opening)))) = first else {
        return Err(LinkError("a segment without an opening".to_owned()));
    };
    let record = Carrier::segment(Arc::clone(app), known, ends, &opening).await.map_err(fail)?;
    let mut frames: u64 = 0;
    loop {
        match heard(&mut stream).await {
            Ok(Some(FromAgent::Frame(frame))) => {
                if let Err(error) = record.frame(&frame).await {
                    record.cut_off(&error.to_string());
                    return Err(fail(error));
                }
                frames = frames.saturating_add(1);
                if let Err(error) = send(&mut stream, &FromServer::Recorded(frames)).await {
                    record.cut_off("the segment was cut off");
                    return Err(error);
                }
            }
            Ok(None) => {
                record.cut_off("the segment was cut off");
                stream.shutdown().await.unwrap_or_default();
                return Ok(record.fin());
            }
            Ok(Some(FromAgent::Opening(_))) | Err(_) => {
                record.cut_off("the segment was cut off");
                return Ok(record.fin());
            }
        }
    }
}

async fn heard<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<FromAgent>, LinkError> {
    let bytes = read_message(stream, MAX_PACKET).await.map_err(|e| LinkError(e.to_string()))?;
    bytes.map(|bytes| FromAgent::decode(&bytes).map_err(|e| LinkError(e.to_string()))).transpose()
}
