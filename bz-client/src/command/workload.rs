//! Where `bz` finds the tokens of the job it runs in.

use std::env;
use std::sync::Arc;

use anyhow::bail;
use bz_client::login::{Command, GithubActions, GoogleMetadata, TokenSource};
use bz_client::secret::Secret;
use bz_client::server::Server;

/// The source of this name, as `bz login --workload` takes it and a stored login says it.
pub(crate) fn source(name: &str, server: &Server) -> anyhow::Result<Arc<dyn TokenSource>> {
    let said = |name: &str| env::var(name).unwrap_or_default();
    if let Some(line) = name.strip_prefix("command:") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (program, arguments) = words.split_first().map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
        return Ok(Arc::new(Command::new(program, arguments)?));
    }
    Ok(match name {
        "github" => {
            let token = Secret::new(said("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
            Arc::new(GithubActions::new(&said("ACTIONS_ID_TOKEN_REQUEST_URL"), &token, server)?)
        }
        "circleci" => Arc::new(Command::circleci()),
        "google" => Arc::new(GoogleMetadata::new(env::var("GCE_METADATA_HOST").ok().as_deref(), server)?),
        _ => bail!("--workload takes github, circleci, google or \"command:PROGRAM ARGUMENTS\", and no {name}"),
    })
}
