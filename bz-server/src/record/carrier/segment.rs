//! An agent's segment as the record takes it: what a shell shows while nobody is attached.

use std::sync::Arc;

use bz_core::signed::Signed;
use bz_protocol::segment::SegmentOpening;
use bz_protocol::transcript::{Observer, Record, Violation};
use tokio::sync::OnceCell;

use crate::app::App;
use crate::observe;
use crate::record::carrier::{Carrier, Ends, Unrecorded};
use crate::record::pen::{Note, Pen};
use crate::store::connection::Connection;

/// The size of a screen that nobody looks at.
const SCREEN: (u16, u16) = (24, 80);

impl Carrier {
    /// Begins the record of a segment, beside that of the session that held the shell last.
    ///
    /// # Errors
    /// [`Unrecorded::Violation`] when the agent did not sign the opening for this connection, [`Unrecorded::Unknown`]
    /// when the record does not know that session.
    pub async fn segment(
        app: Arc<App>,
        connection: Connection,
        ends: Ends,
        opening: &Signed<SegmentOpening>,
    ) -> Result<Self, Unrecorded> {
        let carrier = Self { app, connection, ends, session: OnceCell::new() };
        let (observer, records) = carrier.held(opening).await?;
        let again = carrier.last_line().await;
        let session = carrier.begin(observer, Pen::new());
        {
            let mut inner = session.lock();
            inner.again = again;
            inner.segment = true;
            let lens = carrier.connection.access.spec().lens;
            inner.lens = observe::Observer::new(lens, SCREEN.0, SCREEN.1);
        }
        carrier.keep_as_now(&session).await;
        let notes = session.notes().ok_or(Unrecorded::Ended)?;
        notes.send(Note::Keep(records)).await.map_err(|_| Unrecorded::Ended)?;
        carrier.session.set(session).map_err(|_| Unrecorded::Ended)?;
        carrier.app.records.sweep(carrier.connection.id);
        Ok(carrier)
    }

    /// Takes a frame of the segment.
    ///
    /// # Errors
    /// [`Unrecorded`]: the segment must end.
    pub async fn frame(&self, frame: &[u8]) -> Result<(), Unrecorded> {
        let session = self.session.get().ok_or(Unrecorded::Unknown)?;
        self.take(session, |inner| inner.observer.segment_frame(frame)).await.map(drop)
    }

    /// Nothing more comes of the segment, also without its end.
    pub fn cut_off(&self, why: &str) {
        if let Some(session) = self.session.get() {
            session.over(why);
        }
    }

    /// An observer that goes on from the session that the opening names.
    async fn held(&self, opening: &Signed<SegmentOpening>) -> Result<(Observer, Vec<Record>), Unrecorded> {
        let (parties, keep, records) = (self.parties().await, self.keep(), &self.app.records);
        let parts = records.parts(self.connection.id).await.map_err(|_| Unrecorded::NotKept)?;
        for part in parts.into_iter().rev() {
            let head = records.head(part).await.map_err(|_| Unrecorded::NotKept)?;
            match Observer::segment(parties.clone(), keep, &head, opening) {
                Ok(found) => return Ok(found),
                Err(Violation::OpeningFor("session")) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(Unrecorded::Unknown)
    }
}
