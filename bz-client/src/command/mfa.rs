//! `bz mfa`: the caller's own second factor, and what `bz login` does about it.

use anyhow::Context as _;
use bz_client::RestError;
use bz_client::client::Client;
use bz_core::api::error::Code;
use bz_core::api::login::MfaActionRequired;
use bz_core::api::mfa::{MfaPassed, MfaStatus, ResetMfa};
use bz_core::totp::TotpSecret;
use clap::{Args, Subcommand};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, local};
use crate::page;

/// How often a code is asked for in one run.
const TRIES: usize = 3;

/// What `bz mfa` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Mfa {
    /// How your second factor stands
    Status,
    /// Give a code for the present login
    Verify {
        /// The six digits that the app shows, or a recovery code; asked for when absent
        code: Option<String>,
    },
    /// Set up a second factor with an authenticator app, which scans a QR code
    Setup(Where),
    /// Put another authenticator app in the place of the one you have
    Reset(Where),
    /// Print new recovery codes; those from before are void
    RecoveryCodes,
}

/// Where the QR code is shown.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// On a page of the server, in a browser, instead of this terminal
    #[arg(long)]
    page: bool,
}

impl Where {
    async fn enroll(self, context: &Context<'_>, client: &Client, reset: ResetMfa) -> anyhow::Result<()> {
        if !self.page {
            return enroll(context, client, reset).await;
        }
        let page = given_lately(context, client, async || client.mfa_page(reset).await).await?;
        let address = client.server().url().join(&page.path).context("the server's page has no address")?;
        let line = format!(
            "Open {address} and type this code there, once and before {}:\n\n{}",
            local(&page.expires_at),
            page.code
        );
        Ok(context.output.result(&json!({"page": address, "code": page.code, "expiresAt": page.expires_at}), &line)?)
    }
}

/// A code is needed, and nobody is there to type it.
#[derive(Debug, thiserror::Error)]
#[error("a code of your second factor is needed: give it with `bz mfa verify CODE`")]
pub(crate) struct NoCode;

impl Mfa {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let client = context.client()?;
        match self {
            Self::Status => show(context, &client.mfa().await?)?,
            Self::Verify { code } => verify(context, &client, code).await?,
            Self::Setup(place) => place.enroll(context, &client, ResetMfa::default()).await?,
            Self::Reset(place) => place.enroll(context, &client, ResetMfa { force_setup: true }).await?,
            Self::RecoveryCodes => {
                let made = given_lately(context, &client, async || client.new_recovery_codes().await).await?;
                print_codes(context, &made.recovery_codes)?;
            }
        }
        Ok(Exit::Fine)
    }
}

/// After a login: does what the server asks for.
pub(crate) async fn finish(
    context: &Context<'_>,
    action: MfaActionRequired,
    code: Option<String>,
) -> anyhow::Result<Exit> {
    match action {
        MfaActionRequired::None => {}
        MfaActionRequired::Totp => verify(context, &context.client()?, code).await?,
        MfaActionRequired::Reset => {
            context.output.warn("Your organization demands a second factor.");
            enroll(context, &context.client()?, ResetMfa::default()).await?;
        }
        MfaActionRequired::ResetDeferAllowed => {
            let ends = context.client()?.mfa().await?.grace_period_end_time;
            let ends = ends.as_deref().map(local).unwrap_or_default();
            context.output.warn(&format!(
                "Your organization demands a second factor. Set it up before {ends}, with `bz mfa setup`; after that you \
                 can do nothing else."
            ));
        }
    }
    Ok(Exit::Fine)
}

/// How a second factor stands.
pub(crate) fn show(context: &Context<'_>, status: &MfaStatus) -> anyhow::Result<()> {
    let said = |holds: bool, yes: &'static str, no: &'static str| if holds { yes } else { no };
    context.output.list(status, || {
        let mut table = Table::new([], "");
        table.row(["Demanded".into(), said(status.enabled, "yes", "no").into()]);
        table.row(["Set up".into(), said(status.verified, "yes", "no").into()]);
        if let Some(passed) = status.session_verified {
            let until = status.verified_until.as_deref().map(|end| format!("until {}", local(end)));
            let passed = if passed { until.unwrap_or_else(|| "yes".to_owned()) } else { "no".to_owned() };
            table.row(["Given in this login".into(), passed.into()]);
        }
        if let Some(end) = &status.grace_period_end_time {
            table.row(["May be missing until".into(), local(end).into()]);
        }
        if let Some(end) = &status.locked_until {
            table.row(["No code is taken until".into(), local(end).into()]);
        }
        if status.verified {
            table.row(["Recovery codes left".into(), status.recovery_codes_left.into()]);
        }
        table
    })?;
    Ok(())
}

async fn verify(context: &Context<'_>, client: &Client, code: Option<String>) -> anyhow::Result<()> {
    let passed = give(context, client, code).await?;
    let until = passed.verified_until.as_deref().map(|end| format!(" until {}", local(end))).unwrap_or_default();
    context.output.say(&format!("The second factor is given{until}."));
    if passed.method == "recovery" {
        let left = passed.recovery_codes_left;
        context.output.warn(&format!(
            "That recovery code is spent, {left} are left. Without your app, put another in its place: `bz mfa reset`."
        ));
    }
    Ok(())
}

/// A call that needs a code given a moment ago; asks for one where the last was given before.
async fn given_lately<T>(
    context: &Context<'_>,
    client: &Client,
    call: impl AsyncFn() -> Result<T, RestError>,
) -> anyhow::Result<T> {
    match call().await {
        Err(error) if error.code() == Some(Code::MfaNeeded) => {
            verify(context, client, None).await?;
            Ok(call().await?)
        }
        other => Ok(other?),
    }
}

async fn enroll(context: &Context<'_>, client: &Client, reset: ResetMfa) -> anyhow::Result<()> {
    let url = given_lately(context, client, async || client.reset_mfa(reset).await).await?.mfa_secret_url;
    let secret = TotpSecret::from_url(&url).context("the server gives no secret for an authenticator app")?;
    let code = QrCode::with_error_correction_level(&url, EcLevel::L).context("the secret fits into no QR code")?;
    // As on a dark screen: what is printed is the light between the modules.
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let text = secret.to_base32();
    let groups: Vec<_> = text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    context.output.warn(&format!(
        "Scan this with an authenticator app, or type the secret into it:\n\n{picture}\n\nSecret: {}\n",
        groups.join(" ")
    ));
    let passed = give(context, client, None).await?;
    context.output.say("The second factor is set up.");
    print_codes(context, &passed.recovery_codes)
}

fn print_codes(context: &Context<'_>, codes: &[String]) -> anyhow::Result<()> {
    context.output.warn(
        "Keep these recovery codes where your phone is not. Each is taken once in place of a code, and they are never \
         shown again:",
    );
    Ok(context.output.result(&json!({"recoveryCodes": codes}), &codes.join("\n"))?)
}

/// Gives this code; or asks for one until it is good.
async fn give(context: &Context<'_>, client: &Client, code: Option<String>) -> anyhow::Result<MfaPassed> {
    if let Some(code) = code {
        return Ok(client.pass_mfa(&code).await?);
    }
    let mut last: Option<RestError> = None;
    for _ in 0..TRIES {
        context.output.warn("Code of your second factor:");
        let code = page::line().await.map_err(|_| NoCode)?;
        match client.pass_mfa(code.trim()).await {
            Ok(passed) => return Ok(passed),
            Err(error) if matches!(error.code(), Some(Code::MfaCode | Code::MfaUsed | Code::BadRequest)) => {
                context.output.warn(&error.to_string());
                last = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| NoCode.into(), Into::into))
}
