//! `bz doctor`: what is wrong, and what to do about it.

use bz_client::doctor::{ServerFacts, answers, server_facts};
use bz_client::issuer_keys::SeenKeys as _;
use bz_client::login::{Login, issuer_keys};
use bz_client::server::Server;
use bz_client::trust::{Trust, TrustSource};
use bz_protocol::driver::{Clock as _, SystemClock};
use bz_protocol::link::Choice;
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Field, Table, Tone, local};

/// How far the clocks may differ before something will fail: half of what the server takes.
const CLOCK_LIMIT: u64 = 60;

/// What `bz doctor` takes.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    text: String,
}

impl Doctor {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let findings = examine(context).await;
        context.output.list(&findings, || {
            let mut table = Table::new(["", "Check", "Finding"], "");
            for finding in &findings {
                let mark =
                    if finding.ok { Field::toned(&"ok", Tone::Good) } else { Field::toned(&"FAILED", Tone::Bad) };
                table.row([mark, finding.check.into(), finding.text.as_str().into()]);
            }
            table
        })?;
        Ok(if findings.iter().all(|finding| finding.ok) { Exit::Fine } else { Exit::Failed })
    }
}

async fn examine(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let profile = &context.profile;
    let mut note = |check, outcome: Result<String, String>| {
        let (ok, text) = outcome.map_or_else(|text| (false, text), |text| (true, text));
        findings.push(Finding { check, ok, text });
    };
    let server = context.server();
    note("profile", text(&server, |_| profile.folder().display().to_string()));
    let Ok(server) = server else { return findings };
    let trust = profile.trust();
    note("trust bundle", text(&trust, describe));
    let login = profile.login();
    note(
        "login",
        text(&login, |login: &Login| {
            format!("{} until {}", login.user().email, local(&login.expires_at().to_string()))
        }),
    );
    let facts = server_facts(&server).await;
    note("server", text(&facts, |_| server.to_string()));
    if let Ok(facts) = &facts {
        note("clock", clock(facts));
        if let Ok(trust) = &trust {
            note("server's bundle", same_bundle(facts, trust));
        }
    }
    if let Ok(trust) = &trust {
        for (check, outcome) in carriers(context, &server, trust).await {
            note(check, outcome);
        }
        note("identity provider", provider(context, (trust, login.as_ref().ok()), &server).await);
    }
    if trust.is_ok() && login.is_ok() && facts.is_ok() {
        note("login at the server", logged_in(context).await);
    }
    findings
}

fn text<T, E: ToString>(outcome: &Result<T, E>, good: impl FnOnce(&T) -> String) -> Result<String, String> {
    outcome.as_ref().map(good).map_err(ToString::to_string)
}

fn describe(trust: &Trust) -> String {
    let fingerprint = trust.fingerprint().map(|digest| digest.to_string()).unwrap_or_default();
    match trust.source() {
        TrustSource::Given => fingerprint,
        TrustSource::FirstUse => format!("{fingerprint} (believed at first use: compare it with your administrator's)"),
    }
}

fn clock(facts: &ServerFacts) -> Result<String, String> {
    match facts.clock_ahead {
        None => Ok("the server tells no time".to_owned()),
        Some(ahead) if ahead.unsigned_abs() > CLOCK_LIMIT => {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            Err(format!("{} s {way} the server's: set this machine's clock", ahead.unsigned_abs()))
        }
        Some(_) => Ok("agrees with the server's".to_owned()),
    }
}

fn same_bundle(facts: &ServerFacts, trust: &Trust) -> Result<String, String> {
    match (&facts.bundle, trust.fingerprint()) {
        (Ok(theirs), Ok(ours)) if *theirs == ours => Ok("is the one pinned here".to_owned()),
        (Ok(theirs), _) => Err(format!(
            "is another ({theirs}): ask your administrator whether it changed, and log in with --bundle FILE"
        )),
        (Err(error), _) => Err(error.clone()),
    }
}

/// Which carriers answer. One that is not needed is told of and is no failure.
async fn carriers(
    context: &Context<'_>,
    server: &Server,
    trust: &Trust,
) -> Vec<(&'static str, Result<String, String>)> {
    let (organization, proxy) = (trust.bundle().organization, server.proxies().to(server.url()));
    let wants_quic = context.carrier == Choice::Quic;
    let websocket = async {
        match (answers(server, Choice::Ws, organization).await, proxy) {
            (Ok(()), None) => Ok("answers".to_owned()),
            (Ok(()), Some(proxy)) => Ok(format!("answers, through the proxy {proxy}")),
            (Err(error), _) if wants_quic => Ok(format!("does not answer, and is not wanted: {error}")),
            (Err(error), _) => Err(error.to_string()),
        }
    };
    let quic = async {
        match (proxy, server.url().scheme()) {
            (Some(proxy), _) if !wants_quic => Ok(format!("not tried: the proxy {proxy} leads to the server")),
            (_, "http") if !wants_quic => Ok("not tried: the server is spoken to without TLS".to_owned()),
            _ => match answers(server, Choice::Quic, organization).await {
                Ok(()) => Ok("answers".to_owned()),
                Err(error) if wants_quic => Err(error.to_string()),
                Err(error) => Ok(format!("does not answer, so sessions go by WebSocket: {error}")),
            },
        }
    };
    let (websocket, quic) = tokio::join!(websocket, quic);
    vec![("WebSocket", websocket), ("QUIC", quic)]
}

async fn provider(
    context: &Context<'_>,
    (trust, login): (&Trust, Option<&Login>),
    server: &Server,
) -> Result<String, String> {
    let issuer = login.map(|login| login.person().issuer);
    let provider = trust.login_provider(issuer.as_deref()).map_err(|error| error.to_string())?;
    let keys = issuer_keys(provider, server).await.map_err(|error| error.to_string())?;
    let now = SystemClock::new().now().wall;
    context.profile.issuer_keys().saw(&provider.issuer, &keys, now).map_err(|error| error.to_string())?;
    Ok(provider.issuer.clone())
}

async fn logged_in(context: &Context<'_>) -> Result<String, String> {
    // The profile's own client, which keeps what a refresh may change.
    let client = context.client().map_err(|error| error.to_string())?;
    client.me().await.map(|user| user.email).map_err(|error| error.to_string())
}
