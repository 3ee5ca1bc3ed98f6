//! What `bz verify` prints.

use std::io;
use std::path::{Path, PathBuf};

use bz_protocol::transcript::{Identity, Trust, Verdict};
use serde_json::{Value, json};

use super::Checked;
use super::receipts::Missing;
use crate::output::{Field, Output, Table, Tone};

/// Prints everything: one transcript with its facts, several as a line each.
pub(super) fn show(
    output: &Output,
    (all, one): (&[Checked], bool),
    (missing, unreadable): (&[Missing], &[(PathBuf, String)]),
) -> io::Result<()> {
    let unreadable_values = unreadable.iter().map(|(path, why)| json!({"file": text_of(path), "reason": why}));
    let values = json!({
        "transcripts": all.iter().map(value).collect::<Vec<_>>(),
        "missing": missing.iter().map(missing_value).collect::<Vec<_>>(),
        "unreadableReceipts": unreadable_values.collect::<Vec<_>>(),
    });
    let only = all.first().filter(|_| one && missing.is_empty() && unreadable.is_empty());
    if let Some(only) = only {
        return output.result(&values, &text(only));
    }
    output.list(&values, || {
        let mut table = Table::new(["", "File", "Finding"], "No transcripts.");
        for checked in all {
            let mark = if checked.is_good() { ok() } else { Field::toned(&"FAILED", Tone::Bad) };
            table.row([mark, text_of(&checked.path).into(), line(checked).into()]);
        }
        for session in missing {
            let mark = Field::toned(&"MISSING", Tone::Bad);
            let paths = session.paths.iter().map(|path| text_of(path)).collect::<Vec<_>>().join(", ");
            table.row([mark, paths.into(), missing_line(session).into()]);
        }
        for (path, why) in unreadable {
            table.row([Field::toned(&"FAILED", Tone::Bad), text_of(path).into(), why.into()]);
        }
        table
    })
}

fn ok() -> Field {
    Field::toned(&"ok", Tone::Good)
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

fn missing_line(session: &Missing) -> String {
    let last = session.last.as_ref().map(|time| format!(", last signed {time}")).unwrap_or_default();
    format!(
        "no transcript of connection {}, session {}{last}, as the {} knows",
        session.connection,
        session.session,
        session.holders.join(" and the ")
    )
}

fn word(checked: &Checked, verdict: &Verdict) -> &'static str {
    if checked.findings.iter().any(|finding| !finding.good) {
        return "FAILED: it does not hold what a receipt says";
    }
    if checked.goes_on.as_ref().is_some_and(|goes_on| !goes_on.whole) {
        return "FAILED: it does not hold what the transcript behind it names";
    }
    match (verdict.trust, verdict.complete, checked.has_end(verdict)) {
        (Trust::Proved, true, _) => "proved",
        (Trust::Proved, false, true) if checked.goes_on.is_some() => "proved, up to where another goes on",
        (Trust::Proved, false, true) => "proved, and the receipts show that nothing follows",
        (Trust::Proved, false, false) => "proved so far as it goes: its end is missing",
        (Trust::SelfConsistent, _, _) => "self-consistent: it agrees with itself, and nothing more is known",
    }
}

fn line(checked: &Checked) -> String {
    let verdict = match &checked.verdict {
        Ok(verdict) => verdict,
        Err(refused) => return format!("REFUSED: {refused}"),
    };
    let bad: Vec<&str> = checked.findings.iter().filter(|f| !f.good).map(|f| f.text.as_str()).collect();
    if !bad.is_empty() {
        return bad.join("; ");
    }
    // Nobody keeps a receipt of a segment.
    let lacks = checked.findings.is_empty() && verdict.segment.is_none();
    let compared = if lacks { "; no receipt of it" } else { "" };
    let alone = if verdict.segment.is_some() { ", nobody attached" } else { "" };
    format!("{}: {}{alone}, {}{compared}", word(checked, verdict), verdict.person.subject, verdict.started)
}

fn identity(verdict: &Verdict) -> &'static str {
    match verdict.identity {
        Identity::Proved => "proved by the identity provider's token",
        Identity::AttestedByAgent => "attested by the agent; the tokens were taken out",
    }
}

fn text(checked: &Checked) -> String {
    let verdict = match &checked.verdict {
        Ok(verdict) => verdict,
        Err(refused) => return format!("REFUSED: {refused}"),
    };
    let user = verdict.user.as_ref().map(ToString::to_string).unwrap_or_default();
    let ended = verdict.ended.map_or_else(|| "not signed off".to_owned(), |t| t.to_string());
    let withheld = verdict.to_agent.withheld + verdict.to_client.withheld;
    let facts = format!(
        "{}\nperson    {} ({}), {}\ntarget    {} as {user}\nsession   {}\nfrom      {} to {ended}\ncontent   {} bytes \
         to the agent, {} to the client, {withheld} frames withheld, {} bytes uncovered",
        word(checked, verdict),
        verdict.person.subject,
        verdict.person.issuer,
        identity(verdict),
        verdict.request.target,
        verdict.session,
        verdict.started,
        verdict.to_agent.bytes,
        verdict.to_client.bytes,
        verdict.uncovered_tail.bytes,
    );
    let receipts = checked.findings.iter().map(|finding| format!("\nreceipt   {}", finding.text));
    let alone =
        verdict.segment.map_or("", |_| "\nsegment   of a shell that nobody was attached to: the agent alone signs it");
    let goes_on = checked.goes_on.as_ref().map(|goes_on| format!("\ngoes on   in {}", text_of(&goes_on.path)));
    facts + alone + &goes_on.unwrap_or_default() + &receipts.collect::<String>()
}

fn value(checked: &Checked) -> Value {
    let mut value = match &checked.verdict {
        Ok(verdict) => facts(verdict),
        Err(refused) => json!({"verdict": "refused", "reason": refused.to_string()}),
    };
    let receipts = checked.findings.iter().map(|finding| {
        json!({
            "file": text_of(&finding.path),
            "holder": finding.holder,
            "finding": finding.kind,
            "text": finding.text,
        })
    });
    if let Some(members) = value.as_object_mut() {
        members.insert("file".to_owned(), json!(text_of(&checked.path)));
        members.insert("good".to_owned(), json!(checked.is_good()));
        members.insert("receipts".to_owned(), receipts.collect());
        members.insert("goesOnIn".to_owned(), json!(checked.goes_on.as_ref().map(|goes_on| text_of(&goes_on.path))));
    }
    value
}

fn facts(verdict: &Verdict) -> Value {
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
        "segment": verdict.segment.is_some(),
        "predecessor": verdict.predecessor.map(|p| p.session.to_string()),
        "withheldFrames": verdict.to_agent.withheld + verdict.to_client.withheld,
        "uncoveredBytes": verdict.uncovered_tail.bytes,
    })
}

fn missing_value(missing: &Missing) -> Value {
    json!({
        "session": missing.session.to_string(),
        "connection": missing.connection,
        "holders": missing.holders,
        "receipts": missing.paths.iter().map(|path| text_of(path)).collect::<Vec<_>>(),
        "lastSigned": missing.last,
    })
}
