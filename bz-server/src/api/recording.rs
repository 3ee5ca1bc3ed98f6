//! Recordings and transcripts of connections: to see, to take along, to delete.

mod watch;

use bz_core::api::record::{RecordingMatch, SessionRecording, TranscriptFile};
use bz_core::id::ConnectionId;
use bz_core::oidc::SKEW;
use bz_core::time::UnixTime;
use bz_protocol::transcript::{Reader, redact, restore};

use bz_core::digest::Digest;

use crate::api::connection::state;
use crate::api::openapi::{Asciicast, Nothing, Transcript, Whole};
use crate::api::page::List;
use crate::api::range::{self, Tag};
pub(super) use crate::api::recording::watch::watch;
use crate::api::{Answer, Call};
use crate::app::App;
use crate::connection::life::State;
use crate::connection::record_on;
use crate::error::ApiError;
use crate::record::{Part, RecordError, asciicast, search};
use crate::store::connection::{Connection, ConnectionFilter, Standing};

/// `GET session-recordings`: of connections that policy has recorded, newest first.
pub(super) async fn list(call: Call) -> Result<Answer<List<SessionRecording>>, ApiError> {
    let all = ConnectionFilter { closed: true, whole: call.page()?.is_some(), ..ConnectionFilter::default() };
    let mut shown = Vec::new();
    for connection in call.app.store.connections(all).await? {
        if is_recorded(&connection) {
            let parts = call.app.records.parts(connection.id).await?;
            if !parts.is_empty() {
                shown.push(show(&connection, &parts));
            }
        }
    }
    Answer::list(&call, shown)
}

/// `GET session-recordings/{id}`: asciicast, also while the session runs, and parts of it.
pub(super) async fn get(call: Call) -> Result<Answer<Asciicast>, ApiError> {
    let (text, tag) = cast(&call).await?;
    range::answer(&call.head.headers, Asciicast::MEDIA, (text.into_bytes(), &tag))
}

/// `GET session-recordings/{id}/search`: the lines that were shown with a text in them, also while the session runs.
pub(super) async fn find(call: Call) -> Result<Answer<Whole<RecordingMatch>>, ApiError> {
    let text = call.query("q").pop().unwrap_or_default();
    if !(1..=200).contains(&text.len()) {
        return Err(ApiError::field("q", "must have 1 to 200 bytes"));
    }
    Answer::whole(&search(&cast(&call).await?.0, &text))
}

/// A recording, and its version. What goes on keeps what there is of it as it is, unless it is deleted or another session
/// goes on with it, which may tell again what was under way.
async fn cast(call: &Call) -> Result<(String, Tag), ApiError> {
    let (connection, parts) = recorded(call).await?;
    let over = is_over(&call.app, &connection);
    let mut files = Vec::new();
    for part in &parts {
        files.extend(call.app.records.read(connection.id, part.number).await?);
    }
    let text = tokio::task::spawn_blocking(move || asciicast(files.iter().map(Vec::as_slice), over)).await;
    let text = text.map_err(ApiError::internal)?;
    let tag = if over {
        Tag::Strong(Digest::of(text.as_bytes()).to_string())
    } else {
        let deleted = connection.record.deleted.map_or(0, UnixTime::as_millis);
        Tag::Weak(format!("{}-{deleted}", parts.len()))
    };
    Ok((text, tag))
}

/// Whether nothing comes any more.
fn is_over(app: &App, connection: &Connection) -> bool {
    matches!(connection.life.state, State::Closed | State::Lost) && app.records.running(connection.id) == 0
}

/// `DELETE session-recordings/{id}`: withholds the content recorded so far, also while the session runs. Recording goes
/// on as policy says, unless `stop=true`.
pub(super) async fn delete(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let (connection, _) = recorded(&call).await?;
    let stop = call.flag("stop");
    call.note_context(if stop { "stopped" } else { "goes on" });
    if stop && connection.record.required && !is_over(&call.app, &connection) {
        return Err(ApiError::conflict("policy lets nothing of it go on unrecorded: close the connection first"));
    }
    if stop {
        let policy = connection.record.keeps;
        let stopped = Standing { stopped: true, ..connection.record }.under(policy, false);
        record_on(&call.app, &connection, stopped).await?;
    }
    call.app.records.delete_content(connection.id, stop).await?;
    call.app.store.recording_deleted(connection.id, call.now()).await?;
    Ok(Answer::empty())
}

/// `GET connections/{id}/transcripts`.
pub(super) async fn transcripts(call: Call) -> Result<Answer<List<TranscriptFile>>, ApiError> {
    let connection = known(&call).await?;
    let parts = call.app.records.parts(connection.id).await?;
    Answer::list(&call, parts.iter().map(|p| TranscriptFile { number: p.number, size: p.size }).collect())
}

/// `GET connections/{id}/transcripts/{n}`: without tokens, which would be good for a login as long as they last; with
/// `tokens=true` and a right of its own with them, when the last one has ended.
pub(super) async fn transcript(call: Call) -> Result<Answer<Transcript>, ApiError> {
    let connection = known(&call).await?;
    let number = call.param("n").parse().map_err(|_| ApiError::bad_request("a transcript has a number"))?;
    let bytes = call.app.records.read(connection.id, number).await?;
    let bytes = bytes.ok_or_else(|| ApiError::not_found("transcript"))?;
    let bytes = if call.flag("tokens") {
        with_tokens(&call, (connection.id, number), &bytes).await?
    } else {
        redact(&bytes).map_err(ApiError::internal)?
    };
    Ok(Answer::of(Transcript::MEDIA, bytes))
}

async fn with_tokens(
    call: &Call,
    (connection, number): (ConnectionId, u32),
    bytes: &[u8],
) -> Result<Vec<u8>, ApiError> {
    call.note_context("with tokens");
    if !call.has("recordservice:transcript-tokens") {
        return Err(ApiError::denied("no policy lets you have tokens"));
    }
    let tokens = call.app.records.tokens(connection, number).await?;
    // A clock somewhere may be behind ours.
    if let Some(end) = tokens.end().map(|end| end.after(SKEW)).filter(|end| *end > call.app.now().wall) {
        return Err(ApiError::denied(format!("the tokens in it are good until {end}: ask again then")));
    }
    // A file may be older than the rule that none holds tokens.
    let bytes = &redact(bytes).map_err(ApiError::internal)?;
    let mut records = Reader::new(bytes).map_err(ApiError::internal)?.filter_map(Result::ok);
    if tokens.unreadable > 0 || records.any(|(at, record)| tokens.lack(at.record, &record)) {
        return Err(ApiError::conflict(
            "the tokens of this transcript are damaged, or under another key than tokens.key",
        ));
    }
    restore(bytes, |number, record| tokens.original(number, record)).map_err(ApiError::internal)
}

async fn known(call: &Call) -> Result<Connection, ApiError> {
    call.app.store.connection(call.id()?).await?.ok_or_else(|| ApiError::not_found("connection"))
}

async fn recorded(call: &Call) -> Result<(Connection, Vec<Part>), ApiError> {
    let connection = known(call).await?;
    let parts = call.app.records.parts(connection.id).await?;
    if is_recorded(&connection) && !parts.is_empty() {
        Ok((connection, parts))
    } else {
        Err(ApiError::not_found("recording"))
    }
}

const fn is_recorded(connection: &Connection) -> bool {
    connection.recording.output || connection.recording.input
}

fn show(connection: &Connection, parts: &[Part]) -> SessionRecording {
    SessionRecording {
        connection_id: connection.id,
        time_created: connection.created.to_string(),
        connection_state: state(connection),
        target_id: connection.target,
        target_type: connection.place.target_type.clone(),
        target_name: connection.place.target_name.clone(),
        target_user: connection.place.target_user.clone(),
        input_recorded: connection.recording.input,
        subject_id: connection.user,
        size: parts.iter().map(|part| part.size).sum(),
        time_deleted: connection.record.deleted.map(|at| at.to_string()),
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        Self::internal(error)
    }
}
