//! The receipts that transcripts are compared with: which fit, which show that something is gone, which stand alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bz_client::receipts::{is_receipt, read};
use bz_core::digest::Digest;
use bz_protocol::keys::Direction;
use bz_protocol::receipt::{Comparison, Holder, Receipt, compare, explains_end};
use bz_protocol::transcript::Verdict;

use super::files::files;

/// Receipts by their session.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    sessions: BTreeMap<Digest, Vec<Known>>,
    /// Files that are no receipts, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

#[derive(Debug)]
struct Known {
    path: PathBuf,
    receipt: Receipt,
    /// Whether its session must have a transcript.
    must_be_there: bool,
    met: bool,
}

/// What a receipt says of a transcript.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: PathBuf,
    pub(super) holder: &'static str,
    /// For programs.
    pub(super) kind: &'static str,
    pub(super) text: String,
    pub(super) good: bool,
    pub(super) explains_end: bool,
}

/// A session without a transcript.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) session: Digest,
    pub(super) connection: String,
    pub(super) holders: Vec<&'static str>,
    pub(super) paths: Vec<PathBuf>,
    /// When the last thing was signed that the holder knows of.
    pub(super) last: Option<String>,
}

impl Receipts {
    /// Takes in a receipt, or all in a folder. With `must_be_there`, their sessions must have transcripts.
    pub(super) fn add(&mut self, path: &Path, must_be_there: bool) -> anyhow::Result<()> {
        let found = files(path, is_receipt).with_context(|| format!("{} cannot be read", path.display()))?;
        for path in found {
            match read(&path) {
                Ok(receipt) => {
                    let known = Known { path, receipt, must_be_there, met: false };
                    self.sessions.entry(known.receipt.session).or_default().push(known);
                }
                Err(_) if !must_be_there => {}
                Err(error) => self.unreadable.push((path, error.to_string())),
            }
        }
        Ok(())
    }

    /// What the receipts of its session say of a transcript.
    pub(super) fn compare(&mut self, verdict: &Verdict) -> Vec<Finding> {
        let known = self.sessions.get_mut(&verdict.session).map(Vec::as_mut_slice).unwrap_or_default();
        let findings = known.iter_mut().map(|known| {
            known.met = true;
            finding(known, verdict)
        });
        findings.collect()
    }

    /// The sessions that must have a transcript, and had none among those compared.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let alone = |known: &&Vec<Known>| known.iter().any(|k| k.must_be_there) && known.iter().all(|k| !k.met);
        self.sessions.values().filter(alone).filter_map(|known| missing(known)).collect()
    }
}

fn missing(known: &[Known]) -> Option<Missing> {
    let first = &known.first()?.receipt;
    Some(Missing {
        session: first.session,
        connection: first.connection.to_string(),
        holders: known.iter().map(|k| holder(&k.receipt)).collect(),
        paths: known.iter().map(|k| k.path.clone()).collect(),
        last: known.iter().filter_map(|k| k.receipt.noted_at()).max().map(|time| time.to_string()),
    })
}

fn finding(known: &Known, verdict: &Verdict) -> Finding {
    let receipt = &known.receipt;
    let holder = holder(receipt);
    let (kind, text) = match compare(receipt, verdict) {
        Comparison::Whole { .. } => ("fits", format!("nothing is missing that the {holder} knows of")),
        Comparison::OtherSession => ("other", format!("the {holder}'s receipt is of another organization")),
        Comparison::Forged { of, error } => {
            let of = name(of);
            ("forged", format!("the {holder}'s receipt proves nothing: the {of}'s checkpoint in it: {error}"))
        }
        Comparison::Shortened { direction, held, passed } => (
            "shortened",
            format!(
                "SHORTENED: {passed} frames to the {} passed the server, as the {holder} knows, and it holds {held}",
                end(direction)
            ),
        ),
        Comparison::OtherHistory { direction, after } => (
            "otherHistory",
            format!(
                "ANOTHER HISTORY: what it tells of the first {after} frames to the {} is not what was signed, as the \
                 {holder} knows",
                end(direction)
            ),
        ),
    };
    let explains_end = explains_end(receipt, verdict);
    Finding { path: known.path.clone(), holder, kind, text, good: kind == "fits", explains_end }
}

const fn holder(receipt: &Receipt) -> &'static str {
    name(receipt.holder)
}

const fn name(holder: Holder) -> &'static str {
    match holder {
        Holder::Client => "client",
        Holder::Agent => "agent",
    }
}

const fn end(direction: Direction) -> &'static str {
    match direction {
        Direction::ToAgent => "agent",
        Direction::ToClient => "client",
    }
}
