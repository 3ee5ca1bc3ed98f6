//! The access table: a technology is one row that picks its shapes.
//!
//! Every layer matches on a small set of shapes, never on the technology: what the agent does with the bytes
//! ([`Backend`]), how a person reaches it ([`Frontend`]), what the server can read ([`Lens`]). Beside the closed table
//! stands one open door, [`Access::Handler`]: a route that a program embedding the agent serves itself.

pub mod destination;
pub mod request;
pub mod upstream;

use std::fmt;

use bincode::{Decode, Encode};

/// A technology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// An interactive shell.
    Shell,
    /// One command, with separate output streams and exit status.
    Exec,
    /// A route served by the program that embeds the agent.
    Handler,
    /// Streams to wherever the target reaches.
    Tunnel,
    /// The host's own sshd.
    Ssh,
    /// Files, to the target or from it.
    Copy,
    /// A database whose statements are read.
    Database,
    /// Anything else behind one port: nothing of it is read.
    Tcp,
    /// A web server.
    Web,
    /// A Kubernetes API server.
    Kube,
    /// SSH that the agent itself ends, without an sshd.
    SshServer,
}

/// What the agent does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A shell in a pseudoterminal, kept by a holder.
    Pty,
    /// A command with pipes.
    Exec,
    /// The embedding program's handler.
    Handler,
    /// Connections of the agent's own, one for each stream that is opened.
    Dial,
    /// A stream to the host's own sshd, and a certificate that it lets in.
    Ssh,
    /// Files, read and written as the target user.
    Files,
    /// Connections to one database, whose protocol the agent knows as far as the login.
    Database,
    /// Requests to one web server.
    Http,
    /// Requests to the agent's cluster, as somebody else than the agent.
    Kube,
    /// An SSH server of the agent's own, which acts as the target user.
    SshServer,
}

/// How a person reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend {
    /// The person's terminal, raw.
    Terminal,
    /// Standard input, output and error.
    Stdio,
    /// Ports on the person's machine.
    Ports,
    /// The person's own `ssh`, which is given a stream and a certificate.
    Ssh,
}

/// What the server can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lens {
    /// Command lines out of a terminal stream.
    Command,
    /// The command of the request itself.
    Request,
    /// Nothing.
    Opaque,
    /// Which files were copied, with their digests.
    Files,
    /// Statements, with their parameters, rows and errors.
    Query,
    /// Requests: method, path, status.
    Http,
    /// Requests of the Kubernetes API: verb, resource, namespace, status.
    Kube,
    /// What the agent says of the SSH that it ends: commands, terminals and files.
    Ssh,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The name on the command line and in documents.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// The verb a policy must allow; `None` for handlers, whose verb is named by their route.
    pub verb: Option<Verb>,
    /// What the agent does.
    pub backend: Backend,
    /// How a person reaches it.
    pub frontend: Frontend,
    /// What the server can read.
    pub lens: Lens,
    /// The mode unless asked otherwise.
    pub mode: Mode,
    /// Whether it lives on, detached, when its session ends.
    pub detaches: bool,
}

impl Access {
    /// Every technology.
    pub const ALL: [Self; 11] = [
        Self::Shell,
        Self::Exec,
        Self::Handler,
        Self::Tunnel,
        Self::Ssh,
        Self::Copy,
        Self::Database,
        Self::Tcp,
        Self::Web,
        Self::Kube,
        Self::SshServer,
    ];

    /// The technology's row.
    #[must_use]
    pub const fn spec(self) -> Spec {
        match self {
            Self::Shell => SHELL,
            Self::Exec => EXEC,
            Self::Handler => HANDLER,
            Self::Tunnel => TUNNEL,
            Self::Ssh => SSH,
            Self::Copy => COPY,
            Self::Database => DATABASE,
            Self::Tcp => TCP,
            Self::Web => WEB,
            Self::Kube => KUBE,
            Self::SshServer => SSH_SERVER,
        }
    }
}

const SHELL: Spec = Spec {
    name: "shell",
    about: "an interactive shell",
    verb: Some(Verb::Shell),
    backend: Backend::Pty,
    frontend: Frontend::Terminal,
    lens: Lens::Command,
    mode: Mode::Inspected,
    detaches: true,
};

const EXEC: Spec = Spec {
    name: "exec",
    about: "one command, with its output and exit status",
    verb: Some(Verb::Shell),
    backend: Backend::Exec,
    frontend: Frontend::Stdio,
    lens: Lens::Request,
    mode: Mode::Inspected,
    detaches: false,
};

const HANDLER: Spec = Spec {
    name: "handler",
    about: "a route of the program that embeds the agent",
    verb: None,
    backend: Backend::Handler,
    frontend: Frontend::Stdio,
    lens: Lens::Opaque,
    mode: Mode::Sealed,
    detaches: false,
};

const TUNNEL: Spec = Spec {
    name: "tunnel",
    about: "any protocol to whatever the target reaches",
    verb: Some(Verb::Tunnel),
    backend: Backend::Dial,
    frontend: Frontend::Ports,
    lens: Lens::Opaque,
    mode: Mode::Sealed,
    detaches: false,
};

const SSH: Spec = Spec {
    name: "ssh",
    about: "the target's own sshd, for ssh and everything that goes through it",
    verb: Some(Verb::Tunnel),
    backend: Backend::Ssh,
    frontend: Frontend::Ssh,
    lens: Lens::Opaque,
    mode: Mode::Sealed,
    detaches: false,
};

const COPY: Spec = Spec {
    name: "copy",
    about: "files and directories, to the target or from it",
    verb: Some(Verb::FileTransfer),
    backend: Backend::Files,
    frontend: Frontend::Stdio,
    lens: Lens::Files,
    mode: Mode::Inspected,
    detaches: false,
};

const DATABASE: Spec = Spec {
    name: "database",
    about: "a database behind a target, with a log of its statements",
    verb: Some(Verb::Database),
    backend: Backend::Database,
    frontend: Frontend::Ports,
    lens: Lens::Query,
    mode: Mode::Inspected,
    detaches: false,
};

const TCP: Spec = Spec {
    name: "tcp",
    about: "one service behind a target, whatever it speaks",
    verb: Some(Verb::Database),
    backend: Backend::Dial,
    frontend: Frontend::Ports,
    lens: Lens::Opaque,
    mode: Mode::Sealed,
    detaches: false,
};

const WEB: Spec = Spec {
    name: "web",
    about: "a web server behind a target, with a log of its requests",
    verb: Some(Verb::Web),
    backend: Backend::Http,
    frontend: Frontend::Ports,
    lens: Lens::Http,
    mode: Mode::Inspected,
    detaches: false,
};

const KUBE: Spec = Spec {
    name: "kube",
    about: "a Kubernetes cluster, as a user and groups of it",
    verb: Some(Verb::Kubernetes),
    backend: Backend::Kube,
    frontend: Frontend::Ports,
    lens: Lens::Kube,
    mode: Mode::Inspected,
    detaches: false,
};

const SSH_SERVER: Spec = Spec {
    name: "ssh-inspected",
    about: "ssh, scp and sftp that the agent itself answers, as far as the verbs Shell and FileTransfer go",
    verb: Some(Verb::Shell),
    backend: Backend::SshServer,
    frontend: Frontend::Ssh,
    lens: Lens::Ssh,
    mode: Mode::Inspected,
    detaches: false,
};

/// What a policy allows on a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type")]
pub enum Verb {
    /// A shell, or one command in it.
    Shell,
    /// Copying files.
    FileTransfer,
    /// Forwarding any protocol. Off unless a policy names it.
    Tunnel,
    /// A route of the embedding program. No other verb implies it.
    Handler {
        /// The route.
        name: String,
    },
    /// A database behind a target. Proxy policies alone give it.
    Database,
    /// A web server behind a target. Proxy policies alone give it.
    Web,
    /// A cluster. Kubernetes policies alone give it.
    Kubernetes,
}

impl Verb {
    /// Whether it is a route of the embedding program.
    #[must_use]
    pub const fn is_handler(&self) -> bool {
        matches!(self, Self::Handler { .. })
    }

    /// Whether it is about what is behind a target, which target access policies say nothing of.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        match self {
            Self::Shell | Self::FileTransfer | Self::Tunnel | Self::Handler { .. } => false,
            Self::Database | Self::Web | Self::Kubernetes => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell => f.write_str("Shell"),
            Self::FileTransfer => f.write_str("FileTransfer"),
            Self::Tunnel => f.write_str("Tunnel"),
            Self::Handler { name } => write!(f, "Handler:{name}"),
            Self::Database => f.write_str("Database"),
            Self::Web => f.write_str("Web"),
            Self::Kubernetes => f.write_str("Kubernetes"),
        }
    }
}

/// Text that names no verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verb: use Shell, FileTransfer, Tunnel, Handler:NAME, Database, Web or Kubernetes")]
pub struct ParseVerbError;

impl std::str::FromStr for Verb {
    type Err = ParseVerbError;

    fn from_str(text: &str) -> Result<Self, ParseVerbError> {
        match text.split_once(':') {
            Some((kind, name)) if kind.eq_ignore_ascii_case("handler") && request::is_route(name) => {
                Ok(Self::Handler { name: name.to_owned() })
            }
            Some(_) => Err(ParseVerbError),
            None if text.eq_ignore_ascii_case("shell") => Ok(Self::Shell),
            None if text.eq_ignore_ascii_case("filetransfer") => Ok(Self::FileTransfer),
            None if text.eq_ignore_ascii_case("tunnel") => Ok(Self::Tunnel),
            None if text.eq_ignore_ascii_case("database") => Ok(Self::Database),
            None if text.eq_ignore_ascii_case("web") => Ok(Self::Web),
            None if text.eq_ignore_ascii_case("kubernetes") => Ok(Self::Kubernetes),
            None => Err(ParseVerbError),
        }
    }
}

/// Who can read a session's content. Chosen in the request, equal in the grant, or refused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The server can read it and cannot alter it.
    Inspected,
    /// Only client and agent can read it.
    Sealed,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspected => "inspected",
            Self::Sealed => "sealed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_matching_shapes() {
        for (i, access) in Access::ALL.iter().enumerate() {
            let spec = access.spec();
            assert!(Access::ALL.iter().skip(i + 1).all(|other| other.spec().name != spec.name));
            assert_eq!(spec.detaches, spec.backend == Backend::Pty, "only a kept shell outlives its session");
            assert_eq!(spec.lens == Lens::Opaque, spec.mode == Mode::Sealed, "{}", spec.name);
        }
    }

    #[test]
    fn verbs_read_back() {
        let handler = Verb::Handler { name: "debug".to_owned() };
        let plain = [Verb::Shell, Verb::FileTransfer, Verb::Tunnel, Verb::Database, Verb::Web, Verb::Kubernetes];
        for verb in plain.into_iter().chain([handler]) {
            assert_eq!(verb.to_string().parse(), Ok(verb.clone()));
        }
        for bad in ["", "shel", "handler:", "handler:a b", "shell:x"] {
            assert_eq!(bad.parse::<Verb>(), Err(ParseVerbError), "{bad}");
        }
    }
}
