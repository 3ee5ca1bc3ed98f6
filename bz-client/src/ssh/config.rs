//! The file that tells a person's `ssh` of targets: one `Host` for each, to be included from `~/.ssh/config`.
//!
//! Names come from the server, and `ssh` runs what a configuration says: only names that can be nothing but a host's are
//! written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bz_core::access::Verb;
use bz_core::api::target::Target;
use bz_core::target::TargetUser;

use crate::ssh::door::{DoorError, Names};
use crate::target_name::TargetRef;

/// The one kind of key that `ssh` may offer: that of the session's certificate.
const KIND: &str = bz_core::ssh::ECDSA_CERTIFICATE;

/// How `ssh` reaches the program `bz`, and where the two meet.
#[derive(Debug, Clone)]
pub struct SshConfig {
    /// The program.
    pub program: PathBuf,
    /// Its folder of profiles.
    pub config_dir: PathBuf,
    /// The profile.
    pub profile: String,
    /// The folder of sockets and host keys, which is this person's alone.
    pub run_dir: PathBuf,
    /// Whether targets' agents answer, also where a policy allows tunnels.
    pub inspected: bool,
}

/// Who answers.
enum Way {
    /// The target's own sshd, but for the users who may not tunnel: as them its agent.
    Sshd { but: Vec<TargetUser> },
    /// Its agent.
    Agent,
}

/// A configuration, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rendered {
    /// The file's text; empty when it has no hosts.
    #[serde(skip)]
    pub text: String,
    /// Its hosts, as people type them.
    pub hosts: Vec<String>,
    /// Those of them whose agents answer, so that the server reads what is done there; `user@host` where that is so for
    /// one user.
    pub inspected: Vec<String>,
    /// Targets whose names are none for a host.
    pub left_out: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The folder cannot hold sockets.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A path that `ssh` or a shell would read in another way.
    #[error("{0} has characters that cannot stand in a configuration of ssh: put it elsewhere")]
    Path(PathBuf),
}

impl SshConfig {
    /// The configuration for those of the targets that the person may reach by SSH in some way.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn render(&self, targets: &[Target]) -> Result<Rendered, ConfigError> {
        let mut rendered = Rendered { text: String::new(), hosts: vec![], inspected: vec![], left_out: vec![] };
        let mut called: BTreeMap<&str, usize> = BTreeMap::new();
        for target in targets {
            *called.entry(target.name.as_str()).or_default() += 1;
        }
        for target in targets {
            let Some(way) = self.way(target) else { continue };
            let full = format!("{}.{}", target.name, target.environment_name);
            if !is_host(&full) {
                rendered.left_out.push(full);
                continue;
            }
            let alone = called.get(target.name.as_str()) == Some(&1);
            for host in [Some(full.as_str()), alone.then_some(target.name.as_str())].into_iter().flatten() {
                rendered.text.push_str(&self.block(host, target, &way)?);
                rendered.hosts.push(host.to_owned());
                match &way {
                    Way::Agent => rendered.inspected.push(host.to_owned()),
                    Way::Sshd { but } => rendered.inspected.extend(but.iter().map(|user| format!("{user}@{host}"))),
                }
            }
        }
        Ok(rendered)
    }

    /// Decided here, where a person reads it, and not by the server's word at each login; `None` where nobody gets in by
    /// SSH. Each user has verbs of its own.
    fn way(&self, target: &Target) -> Option<Way> {
        let users = || target.allowed_target_users.iter().filter(|user| user.verbs.iter().any(by_ssh));
        users().next()?;
        let (sealed, but): (Vec<_>, Vec<_>) = users().partition(|user| user.verbs.contains(&Verb::Tunnel));
        if self.inspected || sealed.is_empty() {
            return Some(Way::Agent);
        }
        Some(Way::Sshd { but: but.into_iter().map(|user| user.resolved_user_name.clone()).collect() })
    }

    fn block(&self, host: &str, target: &Target, way: &Way) -> Result<String, ConfigError> {
        let named = host.parse().ok().filter(|named| means(named, target));
        // A name with a dot cannot be told from one with an environment.
        let named = named.unwrap_or(TargetRef::Id(target.id));
        let names = Names::new(&self.run_dir, &named)?;
        let mut users = target.allowed_target_users.iter().filter(|user| user.verbs.iter().any(by_ssh));
        let user = match (users.next(), users.next()) {
            (Some(only), None) => format!("    User {}\n", only.resolved_user_name),
            _ => String::new(),
        };
        let (program, config, run) = (plain(&self.program)?, plain(&self.config_dir)?, plain(&self.run_dir)?);
        let (known, socket) = (plain(&names.known_hosts())?, plain(&names.socket(""))?);
        let profile = &self.profile;
        let inspected = match way {
            Way::Agent => "--inspected ".to_owned(),
            Way::Sshd { but } => but.iter().map(|user| format!("--inspected-as '{user}' ")).collect(),
        };
        Ok(format!(
            "Host {host}\n\
             {user}    ProxyCommand '{program}' --config-dir '{config}' --profile '{profile}' ssh-proxy {inspected}--run-dir '{run}' -- '%r@{named}'\n    \
             IdentityAgent \"{socket}%r\"\n    \
             IdentityFile none\n    \
             IdentitiesOnly no\n    \
             PubkeyAuthentication yes\n    \
             PubkeyAcceptedKeyTypes {KIND}\n    \
             PreferredAuthentications publickey\n    \
             HostKeyAlias {named}\n    \
             UserKnownHostsFile \"{known}\"\n    \
             GlobalKnownHostsFile /dev/null\n    \
             StrictHostKeyChecking yes\n    \
             CheckHostIP no\n    \
             UpdateHostKeys no\n\n"
        ))
    }
}

/// Whether a text can only be a host's name: for a pattern, for a shell, and for a line of known hosts.
pub(super) fn is_host(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    begins && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn means(named: &TargetRef, target: &Target) -> bool {
    named.name() == Some(&target.name) && named.environment().is_none_or(|wanted| wanted == target.environment_name)
}

/// Whether a verb lets people in by SSH: at the target's own sshd, or at its agent.
const fn by_ssh(verb: &Verb) -> bool {
    match verb {
        Verb::Tunnel | Verb::Shell | Verb::FileTransfer => true,
        Verb::Handler { .. } | Verb::Database | Verb::Web | Verb::Kubernetes => false,
    }
}

/// A path as it can stand between quotes; `ssh` reads a percent sign as the beginning of a word of its own.
fn plain(path: &Path) -> Result<String, ConfigError> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || "\"'\\$`".contains(c)));
    text.map(|text| text.replace('%', "%%")).ok_or_else(|| ConfigError::Path(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, environment: &str, verb: &Verb) -> Target {
        target_as(name, environment, &[("alice", &[verb])])
    }

    /// A target on which policies give each user these verbs.
    fn target_as(name: &str, environment: &str, users: &[(&str, &[&Verb])]) -> Target {
        let verbs: Vec<_> = users.iter().flat_map(|(_, verbs)| *verbs).collect();
        let users: Vec<_> = users
            .iter()
            .map(|(user, verbs)| serde_json::json!({"userName": user, "resolvedUserName": user, "verbs": verbs}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "7a9d0f4e-0000-4000-8000-000000000001",
            "name": name,
            "status": "Online",
            "environmentId": "7a9d0f4e-0000-4000-8000-000000000002",
            "environmentName": environment,
            "agentVersion": "1",
            "agentPublicKey": bz_core::key::PrivateKey::from_seed(&[1; 32]).unwrap().public(),
            "region": "self-hosted",
            "allowedTargetUsers": users,
            "allowedVerbs": verbs,
        }))
        .unwrap()
    }

    fn config(run_dir: &str) -> SshConfig {
        let path = |text: &str| PathBuf::from(text);
        SshConfig {
            program: path("/opt/100%/bz"),
            config_dir: path("/home/a b/.config/bz"),
            profile: "default".to_owned(),
            run_dir: path(run_dir),
            inspected: false,
        }
    }

    fn check(targets: &[Target], hosts: &[&str], left_out: &[&str]) -> String {
        let rendered = config("/home/a b/.config/bz/default/ssh").render(targets).unwrap();
        assert_eq!((rendered.hosts, rendered.left_out), (owned(hosts), owned(left_out)));
        rendered.text
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn hosts_are_those_that_ssh_may_reach_by_both_names() {
        let text = check(&[target("web", "Default", &Verb::Tunnel)], &["web.Default", "web"], &[]);
        assert!(text.contains("ProxyCommand '/opt/100%%/bz' --config-dir '/home/a b/.config/bz'"), "{text}");
        assert!(text.contains(" -- '%r@web'\n") && text.contains("    User alice\n"), "{text}");
        for verb in [Verb::Shell, Verb::FileTransfer] {
            let text = check(&[target("web", "Default", &verb)], &["web.Default", "web"], &[]);
            assert!(text.contains(" ssh-proxy --inspected "), "{text}");
        }
        let sealed = check(&[target("web", "Default", &Verb::Tunnel)], &["web.Default", "web"], &[]);
        assert!(!sealed.contains("--inspected"), "{sealed}");
        let handler = Verb::Handler { name: "debug".to_owned() };
        assert_eq!(check(&[target("web", "Default", &handler)], &[], &[]), "");
        let twice = [target("web", "a", &Verb::Tunnel), target("web", "b", &handler)];
        check(&twice, &["web.a"], &[]);
        let dotted = check(&[target("web.example", "a", &Verb::Tunnel)], &["web.example.a", "web.example"], &[]);
        assert!(dotted.contains("'%r@7a9d0f4e-0000-4000-8000-000000000001'"), "{dotted}");
    }

    /// A verb is one user's: the way to sshd is theirs who may tunnel.
    #[test]
    fn each_user_goes_the_way_that_policies_give_that_user() {
        let (shell, tunnel, files) = (&Verb::Shell, &Verb::Tunnel, &Verb::FileTransfer);
        let handler = &Verb::Handler { name: "debug".to_owned() };
        let check = |users: &[(&str, &[&Verb])], flags: &str, inspected: &[&str]| {
            let rendered = config("/run/bz").render(&[target_as("web", "a", users)]).unwrap();
            let (_, line) = rendered.text.split_once(" ssh-proxy ").unwrap_or_default();
            let (before, _) = line.split_once("--run-dir").unwrap_or_default();
            assert_eq!((before, rendered.inspected), (flags, owned(inspected)), "{users:?}");
            rendered.text
        };
        let root = check(
            &[("alice", &[tunnel, shell]), ("root", &[shell, files])],
            "--inspected-as 'root' ",
            &["root@web.a", "root@web"],
        );
        assert!(!root.contains("    User "), "one of two: {root}");
        let one = check(&[("alice", &[tunnel]), ("root", &[handler])], "", &[]);
        assert!(one.contains("    User alice\n"), "as root there is no SSH: {one}");
        check(&[("alice", &[shell]), ("root", &[files])], "--inspected ", &["web.a", "web"]);

        // What a policy gives nobody by name, such as a tunnel for databases, opens no way for a user of the host.
        let mut unnamed = target_as("web", "a", &[("root", &[shell])]);
        unnamed.allowed_verbs.push(Verb::Tunnel);
        let rendered = config("/run/bz").render(&[unnamed.clone()]).unwrap();
        assert!(rendered.text.contains(" ssh-proxy --inspected "), "{}", rendered.text);
        unnamed.allowed_target_users.clear();
        assert_eq!(config("/run/bz").render(&[unnamed]).unwrap().text, "");
    }

    #[test]
    fn a_name_that_could_be_more_than_a_name_is_left_out() {
        for name in ["*", "a b", "a\nHost *", "-oProxyCommand=x", "a'b", "a$(id)", "a%h", "!a", "ä", "a\"", "a#b", ".a"]
        {
            let full = format!("{name}.Default");
            assert_eq!(check(&[target(name, "Default", &Verb::Tunnel)], &[], &[&full]), "");
        }
        check(&[target("web", "b c", &Verb::Tunnel)], &[], &["web.b c"]);
    }

    #[test]
    fn a_folder_that_ssh_could_not_use_is_said_here() {
        let targets = [target("web", "Default", &Verb::Tunnel)];
        let long = format!("/{}", "x".repeat(60));
        assert!(matches!(config(&long).render(&targets), Err(ConfigError::Door(DoorError::TooLong(_)))));
        assert!(matches!(config("/tmp/it's").render(&targets), Err(ConfigError::Path(_))));
    }
}
