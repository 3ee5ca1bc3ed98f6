//! The log of a copy whose record is gone on with, as after a start of the server: what was copied before stands in the
//! transcript, where the manifest is kept in any case. Statements of databases are not, and are read anew from here on.

use std::fs;
use std::path::PathBuf;

use bz_core::access::Access;
use bz_core::access::request::{Parameters, Request};
use bz_core::api::record::{FileEvent, FileOutcome};
use bz_core::id::OrganizationId;
use bz_core::key::PublicKey;
use bz_protocol::copy::MANIFEST;
use bz_protocol::frame::Kind;
use bz_protocol::keys::Direction;
use bz_protocol::transcript::{Reader, Record};

use crate::observe::{FileLine, FilesLens, Observer};
use crate::record::blocking;
use crate::record::carrier::{Carrier, Session};
use crate::store::event::{EventFilter, MOST};

impl Carrier {
    /// Gives a session that is gone on with its lens back, and the files that its transcript has and the log has not.
    pub(super) async fn read_again(&self, session: &Session, path: PathBuf) {
        if self.connection.access == Access::Database {
            return self.read_statements_again(session, path).await;
        }
        if self.connection.access != Access::Copy {
            return;
        }
        let (client, organization) = (self.ends.client_key, self.app.organization);
        let read = blocking(move || Ok(read(path, &client, organization))).await;
        let Ok(Some((lens, lines))) = read else { return };
        let filter = EventFilter { connections: vec![self.connection.id], limit: MOST, ..EventFilter::default() };
        let Ok(rows) = self.app.store.file_events(filter).await else { return };
        // A long log is taken to be whole: a row that is there twice would be a lie, one that is missing is in the
        // transcript.
        let told = |row: &&FileEvent| row.problem.is_some() || row.outcome == FileOutcome::Copied;
        let known = if rows.len() >= MOST as usize { lines.len() } else { rows.iter().filter(told).count() };
        let mut inner = session.lock();
        inner.lens = Observer::Files(Box::new(lens));
        inner.files.extend(lines.into_iter().skip(known));
    }
}

fn read(path: PathBuf, client: &PublicKey, organization: OrganizationId) -> Option<(FilesLens, Vec<(u64, FileLine)>)> {
    let bytes = fs::read(path).ok()?;
    let (mut lens, mut lines) = (None, Vec::new());
    for next in Reader::new(&bytes).ok()? {
        match next.ok()?.1 {
            Record::Opening(opening) => {
                let request = Request::decode(&opening.syn.open(client, organization).ok()?.request).ok()?;
                let Parameters::Copy(copy) = request.parameters else { return None };
                lens = Some(FilesLens::resumed(&copy));
            }
            Record::Frame { direction: Direction::ToClient, frame } => {
                let header = frame.header;
                if let (Some(lens), Some(payload)) = (&mut lens, frame.payload())
                    && (header.kind, header.stream) == (Some(Kind::Bytes), MANIFEST)
                {
                    let said = lens.bytes(Direction::ToClient, MANIFEST, payload);
                    lines.extend(said.into_iter().map(|line| (header.number, line)));
                }
            }
            Record::Anchors(_)
            | Record::Directory(_)
            | Record::Predecessor(_)
            | Record::Segment(_)
            | Record::Frame { .. }
            | Record::Checkpoint { .. }
            | Record::Conflict { .. }
            | Record::Server(_) => {}
        }
    }
    lens.map(|lens| (lens, lines))
}
