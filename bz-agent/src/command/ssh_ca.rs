//! `bz-agent ssh-ca`: the lines with which this host's sshd lets people in through this agent, and `bz-agent ssh-keys`,
//! which sshd runs by them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use bz_agent::ssh::{Authority, asked};
use nix::unistd::{Uid, User};

use crate::cli::{SshCa, SshKeys, SshLogin};

pub(crate) fn ssh_ca(folder: &Path, options: &SshCa) -> anyhow::Result<()> {
    let authority = Authority::open(folder)?;
    if options.key {
        return crate::print(&authority.line());
    }
    match options.login {
        SshLogin::Ca => crate::print(&trusts(&authority)),
        SshLogin::Command => crate::print(&asks(folder)?),
        SshLogin::AuthorizedKeys => bail!(
            "sshd needs no lines for this: it must read ~/.ssh/authorized_keys, as it does unless AuthorizedKeysFile says \
             otherwise, and the agent runs with `bz-agent run --ssh-login authorized-keys`"
        ),
    }
}

fn trusts(authority: &Authority) -> String {
    let public = authority.public().display();
    format!(
        "\
# Lets people in whose session the agent of this host has admitted: the key below signs for this host alone.
# Write these lines to /etc/ssh/sshd_config.d/bz-agent.conf, then run: sshd -t && systemctl reload ssh
# sshd takes the first TrustedUserCAKeys that it reads. Where it has one already, append the key to that file:
#   bz-agent ssh-ca --key >> FILE
TrustedUserCAKeys \"{public}\"
"
    )
}

fn asks(folder: &Path) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let owner = std::fs::metadata(folder)?.uid();
    let owner = User::from_uid(Uid::from_raw(owner))?.context("the owner of the agent's folder has no name")?;
    Ok(format!(
        "\
# Has sshd ask the agent of this host about each key that somebody offers, as the one user who may ask it.
# Write these lines to /etc/ssh/sshd_config.d/bz-agent.conf, then run: sshd -t && systemctl reload ssh
# The agent answers when it runs with: bz-agent run --ssh-login command
# sshd takes the first AuthorizedKeysCommand that it reads. Where it has one already, have that one run this, too.
# The program, and every folder above it, must be root's and writable by nobody else.
AuthorizedKeysCommand {} --state-dir {} ssh-keys %u %k
AuthorizedKeysCommandUser {}
",
        word(&program)?,
        word(folder)?,
        owner.name
    ))
}

/// A path as sshd reads it there.
fn word(path: &Path) -> anyhow::Result<String> {
    let plain = |text: &&str| !text.chars().any(|c| c.is_control() || "\"'\\".contains(c));
    let text = path.to_str().filter(plain);
    let text = text.with_context(|| format!("{} cannot stand in a configuration of sshd", path.display()))?;
    let text = text.replace('%', "%%");
    Ok(if text.contains([' ', '#']) { format!("\"{text}\"") } else { text })
}

/// What sshd is to know.
pub(crate) async fn answer(folder: &Path, question: &SshKeys) -> anyhow::Result<()> {
    let answer = asked::ask(folder, &question.user, &question.key).await;
    crate::print(&answer.with_context(|| {
        format!("no agent answers for {}: does it run, with `bz-agent run --ssh-login command`?", folder.display())
    })?)
}
