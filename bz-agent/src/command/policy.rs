//! `bz-agent policy`: a local policy to begin with, and what the agent makes of the one that is there.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use bz_agent::policy_file;
use bz_agent::vault;

const HEAD: &str = "\
# The local policy of this host: a session needs its grant AND one rule here that allows all of it.
# Keep it owned by root (or the agent's user) and writable by nobody else; then send the agent SIGHUP.
version = 1
";

const REST: &str = "\
# Name people by `subjects` or `groups`; `everyone` is everybody whom the organization's grants allow.
everyone = true
verbs = [{ type = \"Shell\" }]
# A user of this host, or {username}: the person's own name, never root and never one of the system's users.
target_users = [\"{username}\"]
# modes = [\"inspected\"]      # refuse sessions whose content the server cannot read
# require_recording = true   # refuse sessions that are not recorded
# session_minutes = 480      # end sessions after this long
# require_mfa = true         # refuse sessions without the server's second factor,
# mfa_minutes = 60           # or with one that was passed longer ago than this when the session opens
# With { type = \"Tunnel\" } among the verbs, where tunnels may lead: a name as it is asked for, a network as it is dialled.
# destinations = [\"db.internal:5432\", \"10.0.0.0/8:*\"]
";

/// Prints a policy that fits what this agent pins.
pub(crate) fn example(folder: &Path) -> anyhow::Result<()> {
    let registered = if folder.exists() { vault::peek(folder)? } else { None };
    let issuers: Vec<String> =
        registered.map(|r| r.bundle.providers.into_iter().map(|p| p.issuer).collect()).unwrap_or_default();
    crate::print(&text(&issuers)?)
}

/// Says what the agent makes of the file.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    match policy_file::read(path)? {
        Some(policy) => crate::print(&format!("{} is good: {} rules\n", path.display(), policy.allow.len())),
        None => bail!("there is no {}; `bz-agent policy example` prints one", path.display()),
    }
}

fn text(issuers: &[String]) -> Result<String, std::fmt::Error> {
    let unknown = ["https://your-identity-provider.example".to_owned()];
    let mut text = HEAD.to_owned();
    for issuer in if issuers.is_empty() { &unknown } else { issuers } {
        // What TOML writes between double quotes, Rust's own escapes fit for a URL.
        write!(text, "\n[[allow]]\nissuer = {issuer:?}\n{REST}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use bz_core::local::LocalPolicy;

    use super::*;

    #[test]
    fn the_example_is_a_policy_with_a_rule_for_each_issuer() {
        let issuers = ["https://a.example".to_owned(), "https://b.example/realm".to_owned()];
        let policy = LocalPolicy::parse(&text(&issuers).unwrap()).unwrap();
        assert!(policy.allow.iter().map(|rule| &rule.issuer).eq(&issuers));
        assert_eq!(LocalPolicy::parse(&text(&[]).unwrap()).unwrap().allow.len(), 1);
    }
}
