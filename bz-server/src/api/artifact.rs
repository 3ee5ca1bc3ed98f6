//! The agents' programs, for scripts that make hosts targets.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use bz_core::api::autodiscovery::Artifact;
use tokio::io::AsyncReadExt as _;

use crate::api::openapi::{Program, Whole};
use crate::api::{Answer, Call};
use crate::error::ApiError;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// `GET artifacts`.
pub(super) async fn list(call: Call) -> Result<Answer<Whole<Artifact>>, ApiError> {
    Answer::whole(&call.app.artifacts.list().await.map_err(ApiError::internal)?)
}

/// `GET artifacts/{name}`: for whoever asks. What a script gets it compares with the digest it carries.
pub(super) async fn get(call: Call) -> Result<Answer<Program>, ApiError> {
    let found = call.app.artifacts.open(call.param("name")).await.map_err(ApiError::internal)?;
    let (artifact, file) = found.ok_or_else(|| ApiError::not_found("program"))?;
    let pieces = futures::stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((Bytes::from(piece), file)))
    });
    let mut answer = Answer::flowing(Program::MEDIA, Body::from_stream(pieces));
    let tag = HeaderValue::try_from(format!("\"{}\"", artifact.sha256)).map_err(ApiError::internal)?;
    answer.headers = vec![(header::CONTENT_LENGTH, artifact.size.into()), (header::ETAG, tag)];
    Ok(answer)
}
