//! `bz generate`: files for other programs.

mod man;
mod script;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bz_client::ssh::config::SshConfig;
use bz_core::script::Kind;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use man::GenerateMan;
use script::GenerateScript;

/// What can be generated.
#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// A configuration with which your own ssh, scp, sftp, rsync and git reach targets
    SshConfig(GenerateSsh),
    /// A script that makes a host with bash a target (for administrators)
    Bash(GenerateScript),
    /// The same for Windows
    Powershell(GenerateScript),
    /// The same as a playbook of Ansible, for the hosts of an inventory
    Ansible(GenerateScript),
    /// The same as a file of Docker Compose: a container as a target
    Container(GenerateScript),
    /// The same as objects of Kubernetes: a cluster's agent
    #[command(visible_alias = "kube-yaml")]
    Kube(GenerateScript),
    /// The manual pages of `bz` and its commands, for `man`
    Man(GenerateMan),
}

/// What `bz generate ssh-config` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes one Host for each target that a policy lets you reach by SSH (verb Tunnel, Shell or FileTransfer), as `name` and as `name.environment`, into a \
                  file of the profile, which ~/.ssh/config includes by one line at its beginning. Run it again when policies \
                  or targets changed; the file is removed when there is nothing that you may reach."
)]
pub(crate) struct GenerateSsh {
    /// Write the Include line into ~/.ssh/config, unless it is there
    #[arg(long)]
    include: bool,
    /// Where ssh and bz meet: a folder of yours alone, with a short name [default: `ssh` in the profile]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Let targets' agents answer, and record, also where a policy allows tunnels to their sshd
    #[arg(long)]
    inspected: bool,
}

impl Generate {
    pub(crate) async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        match self {
            Self::SshConfig(ssh) => ssh.run(context).await,
            Self::Man(man) => man.run(context),
            Self::Bash(script) => script.run(Kind::Bash, context).await,
            Self::Powershell(script) => script.run(Kind::PowerShell, context).await,
            Self::Ansible(script) => script.run(Kind::Ansible, context).await,
            Self::Container(script) => script.run(Kind::Container, context).await,
            Self::Kube(script) => script.run(Kind::Kube, context).await,
        }
    }
}

impl GenerateSsh {
    async fn run(self, context: &Context<'_>) -> anyhow::Result<Exit> {
        let mut targets = context.client()?.targets().await?;
        targets.sort_by(|a, b| (&a.name, &a.environment_name).cmp(&(&b.name, &b.environment_name)));
        let run_dir = self.run_dir.unwrap_or_else(|| context.ssh_dir());
        let config = SshConfig {
            program: std::env::current_exe().context("the path of this program is not known")?,
            config_dir: std::path::absolute(&context.config_dir)?,
            profile: context.profile_name.clone(),
            run_dir: std::path::absolute(run_dir)?,
            inspected: self.inspected,
        };
        let rendered = config.render(&targets)?;
        for name in &rendered.left_out {
            context.output.warn(&format!("{name} is left out: its name could be more than a name to ssh."));
        }
        if !rendered.inspected.is_empty() {
            let hosts = rendered.inspected.join(", ");
            context
                .output
                .say(&format!("The server can read, and logs, what you do on {hosts}: the agents answer there."));
        }
        let path = std::path::absolute(context.profile.folder())?.join("ssh-config");
        let include = format!("Include \"{}\"", path.display());
        let line = if rendered.hosts.is_empty() {
            remove(&path)?;
            "There is no target that you may reach by SSH: there is no configuration any more. `bz why` says why."
                .to_owned()
        } else {
            context.profile.keep_ssh_config(&rendered.text)?;
            if self.include {
                let home = std::env::home_dir().context("this user has no home folder")?;
                add_first(&home.join(".ssh/config"), &include)?;
            }
            let hosts = rendered.hosts.join(", ");
            if self.include {
                format!("ssh knows {hosts}.")
            } else {
                format!("Put this line at the beginning of ~/.ssh/config, and ssh knows {hosts}:\n{include}")
            }
        };
        let value = json!({"file": path, "hosts": rendered.hosts, "inspected": rendered.inspected, "leftOut": rendered.left_out, "include": include});
        context.output.result(&value, &line)?;
        Ok(Exit::Fine)
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Puts a line before everything else, where it holds for every host; the file behind a link is changed, and keeps its mode.
fn add_first(path: &Path, line: &str) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be changed", path.display());
    let (real, text, mode) = match fs::canonicalize(path) {
        Ok(real) => {
            let text = fs::read_to_string(&real).with_context(cannot)?;
            let mode = fs::metadata(&real).with_context(cannot)?.permissions();
            (real, text, Some(mode))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (path.to_owned(), String::new(), None),
        Err(error) => return Err(error).with_context(cannot),
    };
    if text.lines().any(|old| old.trim() == line) {
        return Ok(());
    }
    bz_client::profile::replace_private(&real, &format!("{line}\n\n{text}")).with_context(cannot)?;
    if let Some(mode) = mode {
        fs::set_permissions(&real, mode).with_context(cannot)?;
    }
    Ok(())
}
