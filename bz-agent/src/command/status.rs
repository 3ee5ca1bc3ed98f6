//! `bz-agent status`: who this agent is, and whether it runs.

use std::path::Path;

use anyhow::{Context as _, bail};
use bz_agent::policy_file;
use bz_agent::vault::{self, Vault, VaultError};
use bz_protocol::gate::LocalRule;

pub(crate) fn status(folder: &Path, policy: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        bail!("not registered: there is no {}; run `bz-agent register`", folder.display());
    }
    let found = vault::peek(folder)?;
    let registered =
        found.with_context(|| format!("not registered: {} is empty; run `bz-agent register`", folder.display()))?;
    let running = match Vault::open(folder) {
        Ok(_) => "no",
        Err(VaultError::Busy(_)) => "yes",
        Err(error) => return Err(error.into()),
    };
    let local = match policy_file::rule(policy, registered.local_policy_required) {
        LocalRule::Unrestricted => "none: grants alone decide".to_owned(),
        LocalRule::Policy(read) => format!("{} with {} rules", policy.display(), read.allow.len()),
        LocalRule::RefuseAll(why) => format!("everything is refused: {why}"),
    };
    crate::print(&format!(
        "Target        {} ({})\nOrganization  {}\nServer        {}\nAgent key     {}\nTrust bundle  {}\nLocal policy  {local}\nReceipts      {}\nRunning       {running}\n",
        registered.name,
        registered.identity.target,
        registered.identity.organization,
        registered.server,
        registered.identity.identity_key.public().fingerprint(),
        registered.bundle.fingerprint()?,
        folder.join(bz_agent::receipts::FOLDER).display(),
    ))
}
