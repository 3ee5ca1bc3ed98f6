//! `bz generate bash` and its like: scripts that make hosts targets, put together here, where the trust bundle is. The
//! server gives a token and the digests of programs, and no word of the script.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bz_client::client::{Client, ScriptQuestion};
use bz_client::server::{Roots, Server};
use bz_client::trust::{Trust, TrustSource};
use bz_core::api::autodiscovery::{Artifact, AutodiscoveryScript};
use bz_core::digest::Digest;
use bz_core::script::{IMAGE, Kind, Naming, Pins, Script};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::command::{api_key, environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::local;

/// What `bz generate bash` and its like take.
#[derive(Debug, Args)]
#[command(
    after_help = "The script holds your organization's trust bundle as this profile has it (or --bundle), the digest of the \
                  agent's program, and a token that registers one target within an hour, unless you say otherwise: keep it \
                  like a password until then."
)]
pub(crate) struct GenerateScript {
    /// The environment of the targets [default: the organization's default environment]
    #[arg(long, short)]
    environment: Option<String>,
    /// How a host is called as a target
    #[arg(long, value_enum, default_value_t = Scheme::Hostname, value_name = "SCHEME")]
    target_name_scheme: Scheme,
    /// What the target is called, instead
    #[arg(long, conflicts_with = "target_name_scheme")]
    name: Option<String>,
    /// How many targets the script registers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// For how many minutes it does, 5 to 10080
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=10_080))]
    valid_minutes: u32,
    /// The registration key that its token is of, by name or id, instead of the one that the settings say
    #[arg(long, value_name = "KEY")]
    registration_key: Option<String>,
    /// Put the registration key itself in, which is in this file, instead of a token: for scripts that are used for long
    #[arg(long, value_name = "FILE", conflicts_with_all = ["registration_key", "uses", "valid_minutes"])]
    registration_key_file: Option<PathBuf>,
    /// The trust bundle, from the organization's administrator, instead of this profile's
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signed the server's certificate, instead of this profile's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signed the identity provider's; never the server's authority
    #[arg(long, value_name = "FILE")]
    issuer_ca: Option<PathBuf>,
    /// An agent's program of your own, under the name that the server has it by: the server must give the same
    #[arg(long, value_name = "FILE")]
    agent: Vec<PathBuf>,
    /// The image of a container
    #[arg(long, default_value = IMAGE, hide_default_value = true)]
    image: String,
    /// Write the script to this file, for you alone to read, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How a host is called as a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheme {
    /// As it calls itself
    Hostname,
    /// That, and the time
    Time,
    /// Its instance at AWS
    Aws,
    /// Its name at Digital Ocean
    Do,
}

impl GenerateScript {
    pub(super) async fn run(self, kind: Kind, context: &Context<'_>) -> anyhow::Result<Exit> {
        let (server, client) = (context.server()?, context.client()?);
        let (pins, fingerprint) = self.pins(context, &server)?;
        // Before there is a token that nobody uses.
        let own = self.own_key()?;
        let programs = self.agent.iter().map(|path| program(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let parts = self.parts(&client).await?;
        let artifacts = self.artifacts(context, programs, &parts)?;
        let token = parts.registration_token.as_ref();
        let key = own.or_else(|| token.map(|token| token.secret.clone()));
        let key = key.context("this login has no registration key: name one by --registration-key")?;
        let script = Script {
            server: server.url().as_str().trim_end_matches('/').to_owned(),
            pins: Some(pins),
            key: Some(key),
            environment: parts.environment_name.clone(),
            naming: self.naming(),
            artifacts: artifacts.clone(),
            image: self.image.clone(),
        };
        let text = script.render(kind)?;
        let (until, by) = match token.filter(|_| self.registration_key_file.is_none()) {
            Some(token) => {
                let targets = if token.uses == 1 { "1 target".to_owned() } else { format!("{} targets", token.uses) };
                (format!("{targets} until {}", local(&token.expires_at)), token.registration_key_name.clone())
            }
            None => ("any number of targets".to_owned(), "the key in it".to_owned()),
        };
        context.output.say(&format!("Registers {until}, by {by}; pins the trust bundle {fingerprint}."));
        let value = json!({
            "file": self.output,
            "script": self.output.is_none().then_some(&text),
            "trustBundle": fingerprint.to_string(),
            "artifacts": artifacts,
            "tokenId": token.map(|token| token.id),
            "expiresAt": token.map(|token| &token.expires_at),
        });
        match &self.output {
            Some(path) => {
                bz_client::profile::replace_private(&std::path::absolute(path)?, &text)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                context.output.result(&value, &format!("Written to {}.", path.display()))?;
            }
            None if context.output.is_json() => context.output.result(&value, "")?,
            None => std::io::stdout().lock().write_all(text.as_bytes())?,
        }
        Ok(Exit::Fine)
    }

    fn naming(&self) -> Naming {
        match (&self.name, self.target_name_scheme) {
            (Some(name), _) => Naming::Given(name.clone()),
            (None, Scheme::Hostname) => Naming::Host,
            (None, Scheme::Time) => Naming::Timestamp,
            (None, Scheme::Aws) => Naming::Aws,
            (None, Scheme::Do) => Naming::DigitalOcean,
        }
    }

    /// What the agents will check everything against; never the server's own word.
    fn pins(&self, context: &Context<'_>, server: &Server) -> anyhow::Result<(Pins, Digest)> {
        let known = context.profile.trust()?;
        let trust = match &self.bundle {
            Some(path) => Trust::from_file(path)?,
            None => known.clone(),
        };
        if trust.source() == TrustSource::FirstUse {
            bail!(
                "this profile's trust bundle is the server's own word, which no host should pin: give the file from your \
                 administrator by --bundle FILE, or log in with it once (`bz login --bundle FILE`)"
            );
        }
        let organization = trust.bundle().organization == known.bundle().organization;
        ensure!(organization, "the trust bundle is of another organization than this profile's");
        let server_ca = match (&self.ca, server.roots()) {
            (Some(path), _) => Some(read(path)?),
            (None, Roots::Ca(pem)) => Some(pem.clone()),
            (None, Roots::Platform) => None,
            (None, Roots::Pins(_)) => bail!(
                "this profile knows the server's certificate by a pin, which hosts have no use for: give the certificates \
                 of its authority by --ca FILE"
            ),
        };
        let issuer_ca = self.issuer_ca.as_deref().map(read).transpose()?;
        let fingerprint = trust.fingerprint()?;
        Ok((Pins { bundle: trust.bundle().to_text()?, server_ca, issuer_ca }, fingerprint))
    }

    fn own_key(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.registration_key_file else { return Ok(None) };
        Ok(Some(read(path)?.trim().to_owned()))
    }

    async fn parts(&self, client: &Client) -> anyhow::Result<AutodiscoveryScript> {
        let environment = match &self.environment {
            Some(name) => Some(environment::find(client, name).await?),
            None => None,
        };
        if self.registration_key_file.is_some() {
            let artifacts = client.artifacts().await?;
            let environment_name = environment.map(|environment| environment.name);
            let autodiscovery_script = String::new();
            return Ok(AutodiscoveryScript {
                autodiscovery_script,
                registration_token: None,
                environment_name,
                artifacts,
            });
        }
        let registration_key = match &self.registration_key {
            Some(name) => Some(api_key::find(client, name).await?.id),
            None => None,
        };
        let question = ScriptQuestion {
            environment: environment.map(|environment| environment.id),
            registration_key,
            uses: Some(self.uses),
            valid_minutes: Some(self.valid_minutes),
        };
        Ok(client.script_parts(&question).await?)
    }

    /// The programs whose digests go in: the administrator's own, or those that the server says.
    fn artifacts(
        &self,
        context: &Context<'_>,
        own: Vec<Artifact>,
        parts: &AutodiscoveryScript,
    ) -> anyhow::Result<Vec<Artifact>> {
        if own.is_empty() {
            ensure!(
                !parts.artifacts.is_empty(),
                "the server has no agent to give: put bz-agent-linux-x86_64 into the folder `artifacts` of its data folder"
            );
            context
                .output
                .say("The digest of the agent's program is the server's word; --agent FILE puts your own in.");
            return Ok(parts.artifacts.clone());
        }
        for artifact in &own {
            let Artifact { name, .. } = artifact;
            let given = parts.artifacts.iter().find(|given| given.name == *name);
            let given = given.with_context(|| format!("the server has no {name} to give"))?;
            ensure!(given == artifact, "the server gives another {name} than yours: SHA-256 {}", given.sha256);
        }
        Ok(own)
    }
}

fn program(path: &Path) -> anyhow::Result<Artifact> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Ok(Artifact { name, sha256: Digest::of(&bytes).to_string(), size: bytes.len() as u64 })
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
