//! Scripts that make hosts targets: what is put into them is whatever its caller pins, quoted so that it stays a value.
//!
//! A server makes them without pins, for it does not vouch for itself; whoever has the organization's trust bundle makes
//! them with it. Absent: where any of it comes from.

mod quote;
#[cfg(test)]
mod tests;

use crate::api::autodiscovery::Artifact;
use quote::{block, fill, powershell, shell, yaml};

/// What stands for a registration key where there is none: as in the original's scripts.
pub const NO_KEY: &str = "<REGISTRATION-SECRET-GOES-HERE>";
/// What containers are made of, unless another image is named.
pub const IMAGE: &str = "docker.io/library/buildpack-deps:stable-curl";

/// The kinds of script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For hosts with a shell.
    Bash,
    /// For Windows.
    PowerShell,
    /// A playbook.
    Ansible,
    /// A container, as a file of Docker Compose.
    Container,
    /// A cluster's agent, as objects of Kubernetes.
    Kube,
}

/// How a host is called as a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// As it calls itself.
    Host,
    /// That, and the time.
    Timestamp,
    /// As AWS calls it.
    Aws,
    /// As `DigitalOcean` calls it.
    DigitalOcean,
    /// So.
    Given(String),
}

/// What an agent checks everything against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The trust bundle's text.
    pub bundle: String,
    /// Authorities in PEM for the server's certificate, where the host's own do not know it.
    pub server_ca: Option<String>,
    /// Authorities in PEM for the identity providers' certificates, likewise.
    pub issuer_ca: Option<String>,
}

/// What goes into a script.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// The server's address, without a slash at its end.
    pub server: String,
    /// The pins; the script asks for them where there are none.
    pub pins: Option<Pins>,
    /// The registration key or token; the script asks for it where there is none.
    pub key: Option<String>,
    /// The environment's name; the default one when absent.
    pub environment: Option<String>,
    /// How the host is called.
    pub naming: Naming,
    /// The agents' programs, `bz-agent-SYSTEM-MACHINE` each; others are left out.
    pub artifacts: Vec<Artifact>,
    /// What a container is made of.
    pub image: String,
}

/// What no script can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot stand in a script: it has control characters, or is no such thing")]
pub struct ScriptError(pub &'static str);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Naming {
    const fn word(&self) -> &'static str {
        match self {
            Self::Host => "hostname",
            Self::Timestamp => "timestamp",
            Self::Aws => "aws",
            Self::DigitalOcean => "digitalocean",
            Self::Given(_) => "given",
        }
    }

    fn given(&self) -> &str {
        match self {
            Self::Given(name) => name,
            Self::Host | Self::Timestamp | Self::Aws | Self::DigitalOcean => "",
        }
    }
}

impl Script {
    /// The script's text.
    ///
    /// # Errors
    /// [`ScriptError`] for what cannot stand in one.
    pub fn render(&self, kind: Kind) -> Result<String, ScriptError> {
        self.check()?;
        Ok(match kind {
            Kind::Bash => self.bash(),
            Kind::PowerShell => {
                let artifacts = self.artifact_lines("windows", |machine, artifact| {
                    let (name, sum) = (powershell(&artifact.name), powershell(&artifact.sha256));
                    format!("  {} = @{{ Name = {name}; Sha256 = {sum} }}", powershell(windows(machine)))
                });
                self.filled(include_str!("script/agent.ps1"), powershell, artifacts)
            }
            Kind::Ansible => self.ansible(),
            Kind::Container => {
                // Compose looks for variables in everything.
                let script = self.bash().replace('$', "$$");
                let host = match &self.naming {
                    Naming::Given(name) => name.replace(['_', '.'], "-").chars().take(63).collect(),
                    Naming::Host | Naming::Timestamp | Naming::Aws | Naming::DigitalOcean => "bz-agent".to_owned(),
                };
                let values = [("IMAGE", yaml(&self.image)), ("HOST", yaml(&host)), ("SCRIPT", block(&script, 6))];
                fill(include_str!("script/agent.compose.yml"), &values)
            }
            Kind::Kube => self.kube(),
        })
    }

    fn bash(&self) -> String {
        let artifacts = self.artifact_lines("linux", |machine, artifact| {
            let found = shell(&format!("{} {}", artifact.name, artifact.sha256));
            format!("    {}) echo {found} ;;", shell(&format!("Linux {machine}")))
        });
        self.filled(include_str!("script/agent.bash"), shell, artifacts)
    }

    fn ansible(&self) -> String {
        let programs = self.programs("linux").map(|(machine, artifact)| {
            let sum = yaml(&artifact.sha256);
            format!("{}: {{name: {}, sha256: {sum}}}", yaml(&format!("Linux {machine}")), yaml(&artifact.name))
        });
        let artifacts = format!("{{{}}}", programs.collect::<Vec<_>>().join(", "));
        // Nothing that is put in is looked at for Ansible's own variables.
        self.filled(include_str!("script/agent.playbook.yml"), |text| format!("!unsafe {}", yaml(text)), artifacts)
    }

    fn kube(&self) -> String {
        // The key is in a Secret, and in no ConfigMap.
        let script = Self { key: None, ..self.clone() }.bash();
        let key = self.key.as_deref().unwrap_or(NO_KEY);
        let values = [
            ("NAMESPACE", "bz-agent".to_owned()),
            ("ROLE", "bz-agent-impersonates".to_owned()),
            ("IMAGE", yaml(&self.image)),
            ("TOKEN", yaml(key)),
            ("SCRIPT", block(&script, 4)),
        ];
        fill(include_str!("script/agent.kube.yml"), &values)
    }

    fn filled(&self, template: &str, quoted: impl Fn(&str) -> String, artifacts: String) -> String {
        let pins = self.pins.as_ref();
        let authorities = |pick: fn(&Pins) -> Option<&String>| quoted(pins.and_then(pick).map_or("", String::as_str));
        let values = [
            ("SERVER", quoted(&self.server)),
            ("ENVIRONMENT", quoted(self.environment.as_deref().unwrap_or_default())),
            ("NAMING", quoted(self.naming.word())),
            ("NAME", quoted(self.naming.given())),
            ("TOKEN", quoted(self.key.as_deref().unwrap_or(NO_KEY))),
            ("BUNDLE", quoted(pins.map_or("", |pins| &pins.bundle))),
            ("SERVER_CA", authorities(|pins| pins.server_ca.as_ref())),
            ("ISSUER_CA", authorities(|pins| pins.issuer_ca.as_ref())),
            ("ARTIFACTS", artifacts),
        ];
        fill(template, &values)
    }

    fn artifact_lines(&self, system: &str, line: impl Fn(&str, &Artifact) -> String) -> String {
        self.programs(system).map(|(machine, artifact)| line(machine, artifact)).collect::<Vec<_>>().join("\n")
    }

    /// The programs for a system, each with the machine it is for.
    fn programs<'a>(&'a self, system: &'a str) -> impl Iterator<Item = (&'a str, &'a Artifact)> {
        self.artifacts.iter().filter_map(move |artifact| {
            let name = artifact.name.strip_suffix(".exe").unwrap_or(&artifact.name);
            Some((name.strip_prefix("bz-agent-")?.strip_prefix(system)?.strip_prefix('-')?, artifact))
        })
    }

    fn check(&self) -> Result<(), ScriptError> {
        let line = |text: &str| text.len() <= 1000 && !text.chars().any(char::is_control);
        let word = |text: &str| !text.is_empty() && text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic());
        // Whoever reads a name may take it for more than a name.
        let plain = |text: &str| {
            let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            begins && text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let text = |text: &str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'));
        let rule = |holds: bool, what| if holds { Ok(()) } else { Err(ScriptError(what)) };
        let scheme = ["https://", "http://"].iter().any(|scheme| self.server.starts_with(scheme));
        rule(scheme && word(&self.server) && !self.server.ends_with('/'), "the server's address")?;
        rule(self.environment.as_deref().is_none_or(line), "the environment's name")?;
        rule(self.key.as_deref().is_none_or(word), "the registration key")?;
        rule(word(&self.image), "the image")?;
        rule(self.naming == Naming::Host || self.naming.given().is_empty() || plain(self.naming.given()), "the name")?;
        rule(!matches!(&self.naming, Naming::Given(name) if name.is_empty()), "the name")?;
        for artifact in &self.artifacts {
            let sum = artifact.sha256.len() == 64 && artifact.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            rule(plain(&artifact.name) && sum, "a program of the server")?;
        }
        let Some(pins) = &self.pins else { return Ok(()) };
        let parts = [Some(&pins.bundle), pins.server_ca.as_ref(), pins.issuer_ca.as_ref()];
        rule(parts.into_iter().flatten().all(|part| text(part)), "the trust bundle or an authority")
    }
}

/// What Windows calls a machine.
fn windows(machine: &str) -> &str {
    match machine {
        "x86_64" => "AMD64",
        "aarch64" => "ARM64",
        other => other,
    }
}
