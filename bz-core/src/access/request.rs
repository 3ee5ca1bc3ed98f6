//! What a client asks of a target: typed, bounded, signed whole in `Syn`.

use bincode::{Decode, Encode};

use crate::access::destination::{DestinationRule, MAX_RULES};
use crate::access::upstream::{DatabaseRequest, KubeRequest, WebRequest, Wire};
use crate::access::{Access, Mode, Verb};
use crate::digest::Digest;
use crate::grant::Scope;
use crate::id::{ShellId, TargetId};
use crate::ssh::{MAX_KEY, SshPublicKey};
use crate::target::TargetUser;
use crate::wire::{self, WireError};

/// The most bytes a request may have: the longest command and the rest.
pub const MAX_REQUEST: usize = MAX_COMMAND + 1024;
/// The most bytes of a command.
pub const MAX_COMMAND: usize = 32 << 10;
/// Terminals are at least 1 × 1; rows and columns above this are cut to it.
pub const MAX_SIDE: u16 = 1000;

const MAX_TERM: usize = 64;
const MAX_ROUTE: usize = 64;
/// The most bytes of a path.
pub const MAX_PATH: usize = 4096;
/// The most bytes of a file's own name.
pub const MAX_NAME: usize = 255;

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl Size {
    /// The size within 1 × 1 and [`MAX_SIDE`] × [`MAX_SIDE`]: a resize to 0 or 65535 is no reason to end a shell.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self { rows: self.rows.clamp(1, MAX_SIDE), columns: self.columns.clamp(1, MAX_SIDE) }
    }
}

/// The parameters, one variant per shape of back end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Parameters {
    /// A new shell.
    Shell {
        /// `TERM`.
        term: String,
        /// The terminal's size.
        size: Size,
    },
    /// A shell that runs already.
    Attach {
        /// Which.
        shell: ShellId,
        /// The terminal's size.
        size: Size,
    },
    /// One command, run by the target user's login shell.
    Exec {
        /// The command line.
        command: String,
    },
    /// A route of the embedding program.
    Handler {
        /// The route.
        route: String,
    },
    /// Streams, opened later, to these destinations.
    Tunnel {
        /// Which: 1 to [`MAX_RULES`].
        destinations: Vec<DestinationRule>,
    },
    /// The host's own sshd.
    Ssh {
        /// The key that the client made for this session, as SSH writes it; see [`crate::ssh::SshPublicKey`].
        key: Vec<u8>,
    },
    /// Files, to the target or from it.
    Copy(CopyRequest),
    /// A database behind the target.
    Database(DatabaseRequest),
    /// A web server behind the target.
    Web(WebRequest),
    /// The target's cluster.
    Kube(KubeRequest),
    /// SSH that the agent itself ends.
    SshServer {
        /// The key that the client made for this session, as SSH writes it: the only one that is let in.
        key: Vec<u8>,
        /// What the session is for, and nothing else.
        purpose: SshPurpose,
    },
}

/// What a session with an agent's own SSH server is for. Policy and local policy must allow each verb of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SshPurpose {
    /// Shells and commands.
    Shell,
    /// Files, by scp and sftp.
    Files,
    /// Both.
    ShellAndFiles,
}

impl SshPurpose {
    /// Whether shells and commands are part of it.
    #[must_use]
    pub const fn has_shell(self) -> bool {
        matches!(self, Self::Shell | Self::ShellAndFiles)
    }

    /// Whether files are part of it.
    #[must_use]
    pub const fn has_files(self) -> bool {
        matches!(self, Self::Files | Self::ShellAndFiles)
    }
}

/// Whether a request names a target user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNeed {
    /// Somebody on the target does it.
    Needed,
    /// Where policy names users: whose account of the database it is.
    Possible,
    /// A handler's program and a tunnel's agent act as themselves.
    None,
}

impl Parameters {
    /// The technology.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self {
            Self::Shell { .. } | Self::Attach { .. } => Access::Shell,
            Self::Exec { .. } => Access::Exec,
            Self::Handler { .. } => Access::Handler,
            Self::Tunnel { .. } => Access::Tunnel,
            Self::Ssh { .. } => Access::Ssh,
            Self::Copy(_) => Access::Copy,
            Self::Database(database) => database.access(),
            Self::Web(_) => Access::Web,
            Self::Kube(_) => Access::Kube,
            Self::SshServer { .. } => Access::SshServer,
        }
    }

    /// The verb a policy must allow: the first one, where there are several.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Shell { .. } | Self::Attach { .. } | Self::Exec { .. } => Verb::Shell,
            Self::Handler { route } => Verb::Handler { name: route.clone() },
            Self::Tunnel { .. } | Self::Ssh { .. } => Verb::Tunnel,
            Self::Copy(_) => Verb::FileTransfer,
            Self::Database(_) => Verb::Database,
            Self::Web(_) => Verb::Web,
            Self::Kube(_) => Verb::Kubernetes,
            Self::SshServer { purpose, .. } if purpose.has_shell() => Verb::Shell,
            Self::SshServer { .. } => Verb::FileTransfer,
        }
    }

    /// The verb that must be allowed beside the first one.
    #[must_use]
    pub const fn second_verb(&self) -> Option<Verb> {
        match self {
            Self::SshServer { purpose: SshPurpose::ShellAndFiles, .. } => Some(Verb::FileTransfer),
            Self::SshServer { .. }
            | Self::Shell { .. }
            | Self::Attach { .. }
            | Self::Exec { .. }
            | Self::Handler { .. }
            | Self::Tunnel { .. }
            | Self::Ssh { .. }
            | Self::Copy(_)
            | Self::Database(_)
            | Self::Web(_)
            | Self::Kube(_) => None,
        }
    }

    /// The terminal's size, where there is one.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        match self {
            Self::Shell { size, .. } | Self::Attach { size, .. } => Some(size.clamped()),
            Self::Exec { .. }
            | Self::Handler { .. }
            | Self::Tunnel { .. }
            | Self::Ssh { .. }
            | Self::Copy(_)
            | Self::Database(_)
            | Self::Web(_)
            | Self::Kube(_)
            | Self::SshServer { .. } => None,
        }
    }

    /// The shell that is attached to.
    #[must_use]
    pub const fn shell(&self) -> Option<ShellId> {
        match self {
            Self::Attach { shell, .. } => Some(*shell),
            Self::Shell { .. }
            | Self::Exec { .. }
            | Self::Handler { .. }
            | Self::Tunnel { .. }
            | Self::Ssh { .. }
            | Self::Copy(_)
            | Self::Database(_)
            | Self::Web(_)
            | Self::Kube(_)
            | Self::SshServer { .. } => None,
        }
    }

    /// As whom in a cluster, where they are about one.
    #[must_use]
    pub const fn cluster(&self) -> Option<&KubeRequest> {
        if let Self::Kube(cluster) = self { Some(cluster) } else { None }
    }

    /// What a grant for them says of streams that will be opened.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Tunnel { destinations } => Scope::Destinations(destinations.clone()),
            Self::Database(DatabaseRequest { destination, .. }) | Self::Web(WebRequest { destination, .. }) => {
                Scope::Destinations(vec![destination.into()])
            }
            Self::Shell { .. }
            | Self::Attach { .. }
            | Self::Exec { .. }
            | Self::Handler { .. }
            | Self::Ssh { .. }
            | Self::Copy(_)
            | Self::Kube(_)
            | Self::SshServer { .. } => Scope::Request,
        }
    }

    /// Whether somebody on the target does it.
    #[must_use]
    pub const fn needs_user(&self) -> UserNeed {
        match self {
            Self::Shell { .. }
            | Self::Attach { .. }
            | Self::Exec { .. }
            | Self::Ssh { .. }
            | Self::Copy(_)
            | Self::SshServer { .. } => UserNeed::Needed,
            Self::Database(DatabaseRequest { wire: Wire::Postgres | Wire::Mysql, .. }) => UserNeed::Possible,
            Self::Handler { .. } | Self::Tunnel { .. } | Self::Database(_) | Self::Web(_) | Self::Kube(_) => {
                UserNeed::None
            }
        }
    }
}

/// What is copied. What travels on the stream of such a session is `bz_protocol::copy`'s.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CopyRequest {
    /// Which way.
    pub way: CopyWay,
    /// On the target: from where, or to where. Bytes, because names of files are; from the target user's home unless it
    /// begins with `/`.
    pub path: Vec<u8>,
    /// Whether it may be a directory with all that is in it.
    pub recursive: bool,
    /// Whether what is written keeps modes and times.
    pub preserve: bool,
}

/// Which way files go.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CopyWay {
    /// To the target.
    ToTarget {
        /// What the copy is named where the path is a directory; empty when it goes right into that directory.
        name: Vec<u8>,
    },
    /// From the target.
    FromTarget,
}

/// Everything a session is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The target.
    pub target: TargetId,
    /// The user on the target; none for handlers and tunnels.
    pub user: Option<TargetUser>,
    /// Who can read the content.
    pub mode: Mode,
    /// The technology's own parameters.
    pub parameters: Parameters,
}

/// Why a request is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not an encoding of one.
    #[error("the request is {0}")]
    Wire(#[from] WireError),
    /// A parameter out of bounds.
    #[error("the request's {0} is empty, too long or has characters it may not have")]
    Parameter(&'static str),
    /// A user where none belongs, or none where one does.
    #[error("the request names a target user where none belongs, or none where one is needed")]
    User,
}

impl Request {
    /// The exact bytes that `Syn` carries.
    ///
    /// # Errors
    /// [`RequestError`] when it could not be decoded again.
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        self.check()?;
        Ok(wire::encode(self, MAX_REQUEST)?)
    }

    /// The request in exactly these bytes.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let request: Self = wire::decode(bytes, MAX_REQUEST)?;
        request.check()?;
        Ok(request)
    }

    /// SHA-256 of a request's exact bytes, as grants name it.
    #[must_use]
    pub fn digest(bytes: &[u8]) -> Digest {
        Digest::of(bytes)
    }

    /// The technology.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.parameters.access()
    }

    /// The verb a policy must allow: the first one, where there are several.
    #[must_use]
    pub fn verb(&self) -> Verb {
        self.parameters.verb()
    }

    /// Every verb that policy and local policy must allow.
    pub fn verbs(&self) -> impl Iterator<Item = Verb> {
        std::iter::once(self.parameters.verb()).chain(self.parameters.second_verb())
    }

    fn check(&self) -> Result<(), RequestError> {
        match (self.parameters.needs_user(), &self.user) {
            (UserNeed::Needed, None) | (UserNeed::None, Some(_)) => return Err(RequestError::User),
            (UserNeed::Needed | UserNeed::Possible, Some(_)) | (UserNeed::None | UserNeed::Possible, None) => {}
        }
        match &self.parameters {
            Parameters::Attach { .. } => Ok(()),
            Parameters::Shell { term, .. } => {
                let plain = term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b));
                check(!term.is_empty() && term.len() <= MAX_TERM && plain, "terminal type")
            }
            Parameters::Exec { command } => {
                check(!command.is_empty() && command.len() <= MAX_COMMAND && !command.contains('\0'), "command")
            }
            Parameters::Handler { route } => check(is_route(route), "route"),
            Parameters::Tunnel { destinations } => {
                check((1..=MAX_RULES).contains(&destinations.len()), "list of destinations")
            }
            Parameters::Ssh { key } | Parameters::SshServer { key, .. } => {
                check(key.len() <= MAX_KEY && SshPublicKey::from_blob(key).is_ok(), "SSH key")
            }
            Parameters::Copy(copy) => copy.check(),
            Parameters::Database(database) => database.check(),
            Parameters::Web(_) => Ok(()),
            Parameters::Kube(kube) => kube.check(),
        }
    }
}

impl CopyRequest {
    fn check(&self) -> Result<(), RequestError> {
        let plain = !self.path.is_empty() && self.path.len() <= MAX_PATH && !self.path.contains(&0);
        check(plain, "path")?;
        match &self.way {
            CopyWay::ToTarget { name } => check(name.is_empty() || is_file_name(name), "file name"),
            CopyWay::FromTarget => Ok(()),
        }
    }
}

/// Whether this names a file within its directory: 1 to 255 bytes, no `/`, no NUL, and neither `.` nor `..`.
#[must_use]
pub fn is_file_name(name: &[u8]) -> bool {
    let special = name == b"." || name == b"..";
    !name.is_empty() && name.len() <= MAX_NAME && !special && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

/// Whether this can name a route: 1 to 64 letters, digits, `-`, `_`, `.` or `/`.
#[must_use]
pub fn is_route(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    !name.is_empty() && name.len() <= MAX_ROUTE && plain
}

const fn check(holds: bool, what: &'static str) -> Result<(), RequestError> {
    if holds { Ok(()) } else { Err(RequestError::Parameter(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::destination::Destination;

    fn request(parameters: Parameters) -> Request {
        let user = (parameters.needs_user() == UserNeed::Needed).then(|| "alice".parse().unwrap());
        Request { target: TargetId::from_bytes([1; 16]), user, mode: Mode::Inspected, parameters }
    }

    fn check_parameters(parameters: Parameters, want: Result<(), RequestError>) {
        let request = request(parameters);
        let got = request.encode().map(|bytes| assert_eq!(Request::decode(&bytes), Ok(request.clone())));
        assert_eq!(got, want, "{request:?}");
    }

    #[test]
    fn parameters_are_bounded_on_both_sides() {
        let size = Size { rows: 24, columns: 80 };
        let shell = |term: &str| Parameters::Shell { term: term.to_owned(), size };
        let exec = |command: String| Parameters::Exec { command };
        let route = |route: &str| Parameters::Handler { route: route.to_owned() };
        check_parameters(shell("xterm-256color"), Ok(()));
        check_parameters(shell(""), Err(RequestError::Parameter("terminal type")));
        check_parameters(shell("x\ny"), Err(RequestError::Parameter("terminal type")));
        check_parameters(exec("x".repeat(MAX_COMMAND)), Ok(()));
        check_parameters(exec("x".repeat(MAX_COMMAND + 1)), Err(RequestError::Parameter("command")));
        check_parameters(exec("a\0b".to_owned()), Err(RequestError::Parameter("command")));
        check_parameters(exec(String::new()), Err(RequestError::Parameter("command")));
        check_parameters(route("admin/debug"), Ok(()));
        check_parameters(route(""), Err(RequestError::Parameter("route")));
        let tunnel = |rules: &[&str]| Parameters::Tunnel {
            destinations: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        };
        check_parameters(tunnel(&["db:5432", "*:*"]), Ok(()));
        check_parameters(tunnel(&[]), Err(RequestError::Parameter("list of destinations")));
        check_parameters(tunnel(&["db:5432"; MAX_RULES + 1]), Err(RequestError::Parameter("list of destinations")));
        let ssh = |key: &[u8]| Parameters::Ssh { key: key.to_owned() };
        let key = crate::ssh::SshKey::from_seed(&[1; 32]).unwrap().public();
        check_parameters(ssh(key.blob()), Ok(()));
        check_parameters(ssh(b"ssh-rsa"), Err(RequestError::Parameter("SSH key")));
        check_parameters(ssh(&[key.blob(), &[0]].concat()), Err(RequestError::Parameter("SSH key")));
        let server = |key: &[u8]| Parameters::SshServer { key: key.to_owned(), purpose: SshPurpose::ShellAndFiles };
        check_parameters(server(key.blob()), Ok(()));
        check_parameters(server(b"ssh-rsa"), Err(RequestError::Parameter("SSH key")));
        let copy = |path: Vec<u8>, name: &[u8]| {
            let way = CopyWay::ToTarget { name: name.to_vec() };
            Parameters::Copy(CopyRequest { way, path, recursive: true, preserve: true })
        };
        check_parameters(copy(vec![b'x'; MAX_PATH], b"\xff name"), Ok(()));
        check_parameters(copy(vec![b'x'; MAX_PATH + 1], b""), Err(RequestError::Parameter("path")));
        check_parameters(copy(vec![], b""), Err(RequestError::Parameter("path")));
        check_parameters(copy(b"a\0b".to_vec(), b""), Err(RequestError::Parameter("path")));
        for name in [b"..".as_slice(), b".", b"a/b", b"a\0", &[b'x'; MAX_NAME + 1]] {
            check_parameters(copy(b"/tmp".to_vec(), name), Err(RequestError::Parameter("file name")));
        }
        check_parameters(Parameters::Attach { shell: ShellId::from_bytes([2; 16]), size }, Ok(()));
    }

    #[test]
    fn what_is_behind_a_target_is_named_whole() {
        let destination: Destination = "db.internal:5432".parse().unwrap();
        let database = |wire, tls| {
            let destination = destination.clone();
            Parameters::Database(DatabaseRequest { destination, wire, tls })
        };
        let tls = Err(RequestError::Parameter("TLS setting"));
        for (wire, access, plain) in [
            (Wire::Plain, Access::Tcp, tls),
            (Wire::Postgres, Access::Database, Ok(())),
            (Wire::Mysql, Access::Database, Ok(())),
        ] {
            check_parameters(database(wire, false), Ok(()));
            check_parameters(database(wire, true), plain);
            assert_eq!(database(wire, false).access(), access);
        }
        let rules = Scope::Destinations(vec!["db.internal:5432".parse().unwrap()]);
        assert_eq!(database(Wire::Postgres, true).scope(), rules);
        check_parameters(Parameters::Web(WebRequest { destination: destination.clone(), tls: true }), Ok(()));
        let kube = |user: &str, groups: &[&str]| {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            Parameters::Kube(KubeRequest { user: user.to_owned(), groups })
        };
        let (user, groups) =
            (RequestError::Parameter("cluster user"), RequestError::Parameter("list of cluster groups"));
        check_parameters(kube("system:serviceaccount:web:deploy", &["system:masters", "dev"]), Ok(()));
        check_parameters(kube("alice", &[]), Ok(()));
        check_parameters(kube("", &[]), Err(user));
        check_parameters(kube("a b", &[]), Err(user));
        check_parameters(kube("a\r\nImpersonate-Group: x", &[]), Err(user));
        check_parameters(kube("alice", &["dev", "dev"]), Err(groups));
        check_parameters(kube("alice", &[""]), Err(groups));
        check_parameters(kube("alice", &["ä"]), Err(groups));
    }

    #[test]
    fn what_ssh_is_for_names_every_verb_that_it_needs() {
        let verbs = |purpose| {
            let parameters = Parameters::SshServer { key: vec![], purpose };
            (parameters.verb(), parameters.second_verb())
        };
        assert_eq!(verbs(SshPurpose::Shell), (Verb::Shell, None));
        assert_eq!(verbs(SshPurpose::Files), (Verb::FileTransfer, None));
        assert_eq!(verbs(SshPurpose::ShellAndFiles), (Verb::Shell, Some(Verb::FileTransfer)));
    }

    #[test]
    fn a_user_is_named_exactly_where_one_belongs() {
        let mut shell = request(Parameters::Exec { command: "true".to_owned() });
        shell.user = None;
        assert_eq!(shell.encode(), Err(RequestError::User));
        let mut handler = request(Parameters::Handler { route: "debug".to_owned() });
        handler.user = Some("alice".parse().unwrap());
        assert_eq!(handler.encode(), Err(RequestError::User));
        let destination: Destination = "db:5432".parse().unwrap();
        for (wire, want) in [(Wire::Postgres, true), (Wire::Mysql, true), (Wire::Plain, false)] {
            let destination = destination.clone();
            let mut database = request(Parameters::Database(DatabaseRequest { destination, wire, tls: false }));
            database.user = Some("alice".parse().unwrap());
            assert_eq!(database.encode().is_ok(), want, "{wire:?}");
        }
    }

    #[test]
    fn sizes_are_clamped() {
        let clamp = |rows, columns| Size { rows, columns }.clamped();
        assert_eq!(clamp(0, 65535), Size { rows: 1, columns: MAX_SIDE });
        assert_eq!(clamp(24, 80), Size { rows: 24, columns: 80 });
    }
}
