//! The command line. The registration key is never on it: every user of the machine could read it there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bz_core::label::Label;
use bz_protocol::link::Choice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::geteuid;

/// Make this host a target: no open port, and nothing done that identity provider and server do not both allow.
#[derive(Debug, Parser)]
#[command(name = "bz-agent", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// The folder with this agent's identity [default: /var/lib/bz-agent as root, else $`XDG_STATE_HOME/bz-agent`]
    #[arg(long, global = true, env = "BZ_AGENT_STATE_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub(crate) state_dir: Option<PathBuf>,
    /// The host owner's policy file [default: /etc/bz-agent/policy.toml as root, else $`XDG_CONFIG_HOME/bz-agent/policy.toml`]
    #[arg(long, global = true, env = "BZ_AGENT_LOCAL_POLICY", hide_env_values = true, value_name = "FILE")]
    pub(crate) local_policy: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register this host as a target; a registered one registers again, under the same keys
    Register(Register),
    /// Serve until SIGTERM; SIGHUP reads the local policy anew
    Run(Run),
    /// Register unless this was done before, then serve
    RegisterAndRun(RegisterAndRun),
    /// Show who this agent is
    Status,
    /// Print what this host's sshd needs to let people in through this agent
    SshCa(SshCa),
    /// Answer this host's sshd, which runs this (`AuthorizedKeysCommand`) and asks about a user and a key
    SshKeys(SshKeys),
    /// The local policy: what this host's owner allows, whatever anybody else grants
    #[command(subcommand)]
    Policy(Policy),
    /// Write the manual pages of this program
    Man {
        /// The folder that they are written to, such as /usr/local/share/man/man8
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Print a policy to begin with
    Example,
    /// Read the policy file as the agent would, and say what it makes of it
    Check,
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The server, such as <https://bz.example.com>
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The file that holds the registration key; without it, the variable `BZ_REGISTRATION_KEY`
    #[arg(long, value_name = "FILE")]
    pub(crate) registration_key_file: Option<PathBuf>,
    /// The target's name [default: this host's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The environment's name [default: the organization's default environment]
    #[arg(long)]
    pub(crate) environment: Option<String>,
    /// What this host says of itself, for people and lists: no policy goes by it; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<Label>,
    /// The organization's trust bundle, from its administrator
    #[arg(long, value_name = "FILE", conflicts_with = "trust_server")]
    pub(crate) bundle: Option<PathBuf>,
    /// Take the trust bundle from the server, and so trust the server this once
    #[arg(long)]
    pub(crate) trust_server: bool,
    /// Certificates (PEM) of the authority that signed the server's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signed the identity provider's; never the server's authority
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_ca: Option<PathBuf>,
    /// Refuse everything as long as there is no local policy file
    #[arg(long)]
    pub(crate) require_local_policy: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What carries the link.
    #[arg(
        long,
        env = "BZ_AGENT_CARRIER",
        hide_env_values = true,
        value_enum,
        default_value_t = Carrier::Auto,
        help = "What carries the link to the server: quic, ws (WebSocket), or auto: who answers first. Where HTTPS_PROXY leads to the server, auto is ws"
    )]
    pub(crate) carrier: Carrier,
    /// How long a shell is kept that nobody is connected to, for shells from now on, such as 90m, 12h or 7d: 1s to 90d
    #[arg(long, env = "BZ_AGENT_SHELL_IDLE", hide_env_values = true, value_name = "TIME", default_value = "7d", value_parser = duration)]
    pub(crate) shell_idle: Duration,
    /// The port of this host's own sshd, on its loopback address
    #[arg(long, env = "BZ_AGENT_SSH_PORT", hide_env_values = true, value_name = "PORT", default_value_t = bz_agent::ssh::PORT)]
    pub(crate) ssh_port: u16,
    /// Its host keys.
    #[arg(
        long,
        help = "A public host key of that sshd; may be given several times [default: /etc/ssh/ssh_host_*_key.pub]",
        env = "BZ_AGENT_SSH_HOST_KEYS",
        hide_env_values = true,
        value_name = "FILE",
        value_delimiter = ':'
    )]
    pub(crate) ssh_host_key: Vec<PathBuf>,
    /// How that sshd is told whom to let in.
    #[arg(
        long,
        help = "How that sshd is told whom to let in: ca, it trusts this agent's key; command, it asks this agent \
                (AuthorizedKeysCommand); authorized-keys, a line for 30 seconds in the target user's own file. `bz-agent \
                ssh-ca --help` says what each of them needs",
        env = "BZ_AGENT_SSH_LOGIN",
        hide_env_values = true,
        value_enum,
        value_name = "HOW",
        default_value_t = SshLogin::Ca
    )]
    pub(crate) ssh_login: SshLogin,
    /// Certificates (PEM) of the authority that signed those of databases and web servers behind this host, beside the
    /// system's
    #[arg(long, env = "BZ_AGENT_UPSTREAM_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) upstream_ca: Option<PathBuf>,
    /// The API server of the cluster that people reach through this agent [default: that of the pod it runs in, if any]
    #[arg(long, env = "BZ_AGENT_KUBE_SERVER", hide_env_values = true, value_name = "URL", requires_all = ["kube_ca", "kube_token_file"])]
    pub(crate) kube_server: Option<String>,
    /// Certificates (PEM) of that cluster's authority
    #[arg(long, env = "BZ_AGENT_KUBE_CA", hide_env_values = true, value_name = "FILE", requires = "kube_server")]
    pub(crate) kube_ca: Option<PathBuf>,
    /// The file with this agent's own token of that cluster; it needs the right to impersonate, and no other
    #[arg(
        long,
        env = "BZ_AGENT_KUBE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE",
        requires = "kube_server"
    )]
    pub(crate) kube_token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "People use their own ssh, scp, sftp and rsync through this agent (`bz generate ssh-config`), where a policy \
                  gives them the verb Tunnel. The host's own sshd lets them in, once it trusts the key that this command \
                  prints. The agent made that key for this host alone; it signs with it, for one minute, one user and \
                  this host's own addresses, and only after it has checked login and grant.\n\n\
                  As root:\n  \
                  bz-agent ssh-ca > /etc/ssh/sshd_config.d/bz-agent.conf\n  \
                  sshd -t && systemctl reload ssh\n\n\
                  Where sshd cannot be made to trust a key, it can ask this agent about each one: the same with \
                  `bz-agent ssh-ca --login command`, and `bz-agent run --ssh-login command`. It trusts nothing then but \
                  the certificate of a session that is open, for one minute.\n\n\
                  Last of all, `bz-agent run --ssh-login authorized-keys` needs nothing of sshd: for 30 seconds of each \
                  session the target user's own ~/.ssh/authorized_keys has a line that names the key, for that user and \
                  this host's own addresses. Links are not followed, and the other lines stay as they are."
)]
pub(crate) struct SshCa {
    /// Print the key alone, to be appended to a file that sshd trusts already
    #[arg(long, conflicts_with = "login")]
    pub(crate) key: bool,
    /// What sshd is to do, as in `bz-agent run --ssh-login`
    #[arg(long, value_enum, value_name = "HOW", default_value_t = SshLogin::Ca)]
    pub(crate) login: SshLogin,
}

#[derive(Debug, Args)]
#[command(
    after_help = "`bz-agent ssh-ca --login command` prints how sshd is told of this. Prints the line that lets the \
                        key in, when it is the certificate of a session of that user that opened within the last minute, \
                        and nothing otherwise. Only this agent's own user and root may ask."
)]
pub(crate) struct SshKeys {
    /// The target user: sshd's %u
    pub(crate) user: String,
    /// The key that somebody offers, in base64: sshd's %k
    pub(crate) key: String,
}

/// How this host's sshd is told whom to let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SshLogin {
    /// It trusts this agent's key
    Ca,
    /// It asks this agent
    Command,
    /// A line in the target user's own file
    AuthorizedKeys,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterAndRun {
    #[command(flatten)]
    pub(crate) register: Register,
    #[command(flatten)]
    pub(crate) run: Run,
}

// What carries the link: the help of the option says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    Auto,
    Ws,
    Quic,
}

impl From<Carrier> for Choice {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Auto => Self::Auto,
            Carrier::Ws => Self::Ws,
            Carrier::Quic => Self::Quic,
        }
    }
}

/// Far above what anybody should leave a shell for.
const LONGEST: Duration = Duration::from_secs(90 * 86_400);

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and s, m, h or d, from 1s to 90d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    let total = total.map(Duration::from_secs).filter(|total| !total.is_zero() && *total <= LONGEST);
    total.ok_or_else(wrong)
}

impl Cli {
    pub(crate) fn state_dir(&self) -> anyhow::Result<PathBuf> {
        place(self.state_dir.as_ref(), "/var/lib/bz-agent", ("XDG_STATE_HOME", ".local/state", "bz-agent"))
    }

    pub(crate) fn policy_path(&self) -> anyhow::Result<PathBuf> {
        let below = ("XDG_CONFIG_HOME", ".config", "bz-agent/policy.toml");
        place(self.local_policy.as_ref(), "/etc/bz-agent/policy.toml", below)
    }
}

fn place(
    given: Option<&PathBuf>,
    system: &str,
    (base, below_home, name): (&str, &str, &str),
) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(std::path::absolute(given)?);
    }
    if geteuid().is_root() {
        return Ok(PathBuf::from(system));
    }
    let named = std::env::var_os(base).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = match named {
        Some(folder) => folder,
        None => {
            std::env::home_dir().context("this user has no home: name the folder with --state-dir")?.join(below_home)
        }
    };
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_takes_no_secret() {
        Cli::command().debug_assert();
        let register = Cli::command().find_subcommand("register").unwrap().clone();
        let names: Vec<_> = register.get_arguments().map(|a| a.get_id().to_string()).collect();
        assert!(!names.iter().any(|name| name == "registration_key" || name == "key"), "{names:?}");
    }

    /// F-009~, F-011~: 7 days unless the administrator of the host says otherwise.
    #[test]
    fn a_shell_is_kept_for_seven_days_or_what_the_host_says() {
        let check = |words: &[&str], seconds: Option<u64>| {
            let parsed = Cli::try_parse_from(["bz-agent"].iter().chain(words)).map(|cli| match cli.command {
                Command::Run(run) | Command::RegisterAndRun(RegisterAndRun { run, .. }) => run.shell_idle.as_secs(),
                Command::Register(_)
                | Command::Status
                | Command::SshCa(_)
                | Command::SshKeys(_)
                | Command::Policy(_) => 0,
            });
            assert_eq!(parsed.ok(), seconds, "{words:?}");
        };
        check(&["run"], Some(bz_agent::holders::IDLE.as_secs()));
        check(&["register-and-run"], Some(7 * 86_400));
        check(&["run", "--shell-idle", "90m"], Some(5_400));
        check(&["register-and-run", "--shell-idle", "90d"], Some(90 * 86_400));
        check(&["run", "--shell-idle", "12h"], Some(43_200));
        for wrong in ["0s", "91d", "7", "d", "", "1w", "-1s", "1.5h", "99999999999999999999s", "200000000000000000d"] {
            check(&["run", "--shell-idle", wrong], None);
        }
        let help = Cli::command().find_subcommand_mut("run").unwrap().render_long_help().to_string();
        assert!(help.contains("--shell-idle <TIME>") && help.contains("[default: 7d]"), "{help}");
    }
}
