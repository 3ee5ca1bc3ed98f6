//! `bz verify`: transcripts against anchors the server has no say in, and against what both ends kept. Offline.

mod files;
mod receipts;
mod show;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bz_client::profile::ProfileError;
use bz_core::trust::TrustBundle;
use bz_protocol::transcript::{Anchors, Following, JwksArchive, Reason, Refused, Trust, Verdict, explain, verify};
use clap::Args;

use crate::context::Context;
use crate::exit::Exit;
use files::files;
use receipts::{Finding, Receipts};

/// How transcripts are called in a folder.
const EXTENSION: &str = "bzt";

/// What `bz verify` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a trust bundle a transcript is checked against itself alone: the verdict is then \"self-consistent\", and the \
exit status is not 0. The keys file is a JSON object of issuers and their key sets (JWKS); `bz` keeps one in its profile \
and adds to it at each login.

Transcripts of one shell name each other: one that ends where another goes on is whole, and one that lacks what the \
other names is not. Receipts that this profile keeps of the sessions in question are always compared. With --receipts or --own-receipts a \
session without a transcript is missing, and the exit status is not 0. An agent's receipts are in its state folder.")]
pub(crate) struct Verify {
    /// Transcripts, and folders of them (*.bzt)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The trust bundle; the profile's when there is one
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The identity providers' keys; those the profile has seen when absent
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Receipts whose sessions must be here, whole: a folder or a file; may be given several times
    #[arg(long, value_name = "DIR")]
    receipts: Vec<PathBuf>,
    /// All sessions this profile keeps receipts of must be here
    #[arg(long)]
    own_receipts: bool,
    /// List who did what, when
    #[arg(long)]
    explain: bool,
}

/// A transcript's file, and what became of it.
struct Checked {
    path: PathBuf,
    verdict: Result<Box<Verdict>, Refused>,
    findings: Vec<Finding>,
    /// Another of the transcripts here, that names this one as its predecessor.
    goes_on: Option<GoesOn>,
}

/// Where a shell's record goes on.
struct GoesOn {
    path: PathBuf,
    /// Whether this one holds everything that the agent knew to have passed the server.
    whole: bool,
}

impl Checked {
    /// Whether it is proved to its end and nothing known is missing.
    fn is_good(&self) -> bool {
        let proved = self.verdict.as_ref().is_ok_and(|verdict| verdict.trust == Trust::Proved && self.has_end(verdict));
        let whole = self.goes_on.as_ref().is_none_or(|goes_on| goes_on.whole);
        proved && whole && self.findings.iter().all(|finding| finding.good)
    }

    fn has_end(&self, verdict: &Verdict) -> bool {
        let goes_on = self.goes_on.as_ref().is_some_and(|goes_on| goes_on.whole);
        verdict.complete || goes_on || self.findings.iter().any(|finding| finding.explains_end)
    }
}

impl Verify {
    pub(crate) fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let anchors = self.anchors(context)?;
        let anchors = match &anchors {
            Some((bundle, keys)) => Anchors::Bundle(bundle, keys),
            None => Anchors::FromTranscript,
        };
        let mut receipts = self.receipts(context)?;
        let mut all = Vec::new();
        for path in self.transcripts()? {
            let bytes = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            let verdict = verify(&bytes, &anchors).map(Box::new);
            if self.explain && verdict.is_ok() {
                tell(context, &path, &bytes)?;
            }
            let findings = verdict.as_ref().map(|verdict| receipts.compare(verdict)).unwrap_or_default();
            all.push(Checked { path, verdict, findings, goes_on: None });
        }
        link(&mut all);
        if all.iter().any(|checked| matches!(&checked.verdict, Err(r) if matches!(r.reason, Reason::KeyNotArchived(_))))
        {
            context.output.say("The profile has not seen that key: name a file that has it with --keys FILE.");
        }
        let missing = receipts.missing();
        let one = matches!(self.files.as_slice(), [only] if !only.is_dir());
        show::show(context.output, (&all, one), (&missing, &receipts.unreadable))?;
        let good = all.iter().all(Checked::is_good) && missing.is_empty() && receipts.unreadable.is_empty();
        Ok(if good { Exit::Fine } else { Exit::Failed })
    }

    fn transcripts(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for path in &self.files {
            let is_transcript = |path: &Path| path.extension().is_some_and(|extension| extension == EXTENSION);
            let more = files(path, is_transcript).with_context(|| format!("{} cannot be read", path.display()))?;
            if more.is_empty() && self.receipts.is_empty() && !self.own_receipts {
                bail!("there is no transcript (*.{EXTENSION}) in {}", path.display());
            }
            found.extend(more);
        }
        Ok(found)
    }

    fn receipts(&self, context: &Context<'_>) -> anyhow::Result<Receipts> {
        let mut receipts = Receipts::default();
        let own = context.profile.receipts();
        if own.folder().exists() || self.own_receipts {
            receipts.add(own.folder(), self.own_receipts)?;
        }
        for path in &self.receipts {
            receipts.add(path, true)?;
        }
        Ok(receipts)
    }

    /// The bundle and the keys; none when there is nothing but the transcript.
    fn anchors(&self, context: &Context<'_>) -> anyhow::Result<Option<(TrustBundle, JwksArchive)>> {
        let keys = match &self.keys {
            Some(path) => Some(JwksArchive::parse(&read(path)?)?),
            None => context.profile.issuer_keys().archive()?,
        };
        let bundle = match &self.bundle {
            Some(path) => Some(TrustBundle::parse(&read(path)?)?),
            None => match context.profile.trust() {
                Ok(trust) => Some(trust.bundle().clone()),
                Err(ProfileError::NoServer(_)) if self.keys.is_none() => None,
                Err(error) => return Err(error.into()),
            },
        };
        // Transcripts that the server gives out hold no tokens, and need no keys.
        Ok(bundle.map(|bundle| (bundle, keys.unwrap_or_default())))
    }
}

/// Finds for each transcript the one that goes on behind it.
fn link(all: &mut [Checked]) {
    let behind = |one: &Checked| {
        let earlier = one.verdict.as_ref().ok()?;
        all.iter().find_map(|other| match other.verdict.as_ref().ok()?.follows(earlier) {
            Following::Other => None,
            Following::Whole => Some(GoesOn { path: other.path.clone(), whole: true }),
            Following::Shortened => Some(GoesOn { path: other.path.clone(), whole: false }),
        })
    };
    let found: Vec<Option<GoesOn>> = all.iter().map(behind).collect();
    for (one, goes_on) in all.iter_mut().zip(found) {
        one.goes_on = goes_on;
    }
}

fn tell(context: &Context<'_>, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    context.output.say(&path.display().to_string());
    for line in explain(bytes).map_err(|refused| anyhow::anyhow!("{refused}"))? {
        let time = line.signed.map(|t| t.to_string()).unwrap_or_default();
        context.output.say(&format!("{time:24} {:8} {}", line.who, line.what));
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
