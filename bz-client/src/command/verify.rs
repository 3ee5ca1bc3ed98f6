//! `bz verify`: a transcript against anchors the server has no say in. Offline.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bz_core::trust::TrustBundle;
use bz_protocol::transcript::{Anchors, Identity, JwksArchive, Trust, Verdict, explain, verify};
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;

/// What `bz verify` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a trust bundle the transcript is checked against itself alone: the verdict is then \"self-consistent\", and the \
exit status is not 0. Keys are needed where the transcript holds ID tokens, which those that the server gives out do not; \
the file is a JSON object of issuers and their key sets (JWKS), kept from when the session was.")]
pub(crate) struct Verify {
    /// The transcript's file
    file: PathBuf,
    /// The trust bundle; the profile's, where there are --keys alone
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The identity providers' keys
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// List who did what, when
    #[arg(long)]
    explain: bool,
}

impl Verify {
    pub(crate) fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let bytes = fs::read(&self.file).with_context(|| format!("{} cannot be read", self.file.display()))?;
        let anchors = self.anchors(context)?;
        let checked = match &anchors {
            Some((bundle, keys)) => verify(&bytes, &Anchors::Bundle(bundle, keys)),
            None => verify(&bytes, &Anchors::FromTranscript),
        };
        let verdict = match checked {
            Ok(verdict) => verdict,
            Err(refused) => {
                let value = json!({"verdict": "refused", "reason": refused.to_string()});
                context.output.result(&value, &format!("REFUSED: {refused}"))?;
                return Ok(Exit::Failed);
            }
        };
        if self.explain {
            for line in explain(&bytes).map_err(|refused| anyhow::anyhow!("{refused}"))? {
                let time = line.signed.map(|t| t.to_string()).unwrap_or_default();
                context.output.say(&format!("{time:24} {:8} {}", line.who, line.what));
            }
        }
        let proved = verdict.trust == Trust::Proved && verdict.complete;
        context.output.result(&value(&verdict), &text(&verdict))?;
        Ok(if proved { Exit::Fine } else { Exit::Failed })
    }

    /// The bundle and the keys; none when no bundle is at hand.
    fn anchors(&self, context: &Context<'_>) -> anyhow::Result<Option<(TrustBundle, JwksArchive)>> {
        let bundle = match (&self.bundle, &self.keys) {
            (Some(path), _) => {
                TrustBundle::parse(&read(path)?).with_context(|| format!("{} is no trust bundle", path.display()))?
            }
            (None, Some(_)) => context.profile.trust()?.bundle().clone(),
            (None, None) => return Ok(None),
        };
        let keys = match &self.keys {
            Some(path) => {
                JwksArchive::parse(&read(path)?).with_context(|| format!("{} holds no keys", path.display()))?
            }
            None => JwksArchive::new(),
        };
        Ok(Some((bundle, keys)))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn word(verdict: &Verdict) -> &'static str {
    match (verdict.trust, verdict.complete) {
        (Trust::Proved, true) => "proved",
        (Trust::Proved, false) => "proved so far as it goes: its end is missing",
        (Trust::SelfConsistent, _) => "self-consistent: it agrees with itself, and nothing more is known",
    }
}

fn identity(verdict: &Verdict) -> &'static str {
    match verdict.identity {
        Identity::Proved => "proved by the identity provider's token",
        Identity::AttestedByAgent => "attested by the agent; the tokens were taken out",
    }
}

fn text(verdict: &Verdict) -> String {
    let user = verdict.user.as_ref().map(ToString::to_string).unwrap_or_default();
    let ended = verdict.ended.map_or_else(|| "not signed off".to_owned(), |t| t.to_string());
    let withheld = verdict.to_agent.withheld + verdict.to_client.withheld;
    format!(
        "{}\nperson    {} ({}), {}\ntarget    {} as {user}\nsession   {}\nfrom      {} to {ended}\ncontent   {} bytes \
         to the agent, {} to the client, {withheld} frames withheld, {} bytes uncovered",
        word(verdict),
        verdict.person.subject,
        verdict.person.issuer,
        identity(verdict),
        verdict.request.target,
        verdict.session,
        verdict.started,
        verdict.to_agent.bytes,
        verdict.to_client.bytes,
        verdict.uncovered_tail.bytes,
    )
}

fn value(verdict: &Verdict) -> serde_json::Value {
    json!({
        "verdict": if verdict.trust == Trust::Proved { "proved" } else { "selfConsistent" },
        "complete": verdict.complete,
        "identity": identity(verdict),
        "session": verdict.session.to_string(),
        "connection": verdict.connection.to_string(),
        "issuer": verdict.person.issuer,
        "subject": verdict.person.subject,
        "target": verdict.request.target.to_string(),
        "targetUser": verdict.user.as_ref().map(ToString::to_string),
        "started": verdict.started.to_string(),
        "ended": verdict.ended.map(|t| t.to_string()),
        "withheldFrames": verdict.to_agent.withheld + verdict.to_client.withheld,
        "uncoveredBytes": verdict.uncovered_tail.bytes,
    })
}
