//! Asking for a connection: what comes back is checked against what was asked before anything is signed.

use bz_core::access::Mode;
use bz_core::access::request::{MAX_REQUEST, Parameters, Request, RequestError, Size};
use bz_core::api::Bytes;
use bz_core::api::access::{AttachShell, Connection, ConnectionMade, NewConnection};
use bz_core::grant::SignedGrant;
use bz_core::id::TargetId;
use bz_core::target::TargetUser;
use bz_core::wire::{self, WireError};

use crate::client::{Client, Lie, made};
use crate::pins::{self, KnownBy, Meeting, PinError};
use crate::rest::RestError;
use crate::target_name::{TargetName, TargetRef};

/// A connection that says what was asked, ready to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The server's answer, checked field by field.
    pub made: ConnectionMade,
    /// The request, blanks filled from the answer.
    pub request: Request,
    /// Its exact bytes, for `Syn`; the grant names their digest.
    pub request_bytes: Vec<u8>,
    /// The grant, checked under the pinned roots.
    pub grant: SignedGrant,
    /// How the agent's key is known: for the person, and for the transcript.
    pub known_by: KnownBy,
    /// The name that the key is pinned under.
    pub name: TargetRef,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server refuses or cannot be reached.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The server's answer is not what was asked.
    #[error(transparent)]
    Lie(#[from] Lie),
    /// The agent's key is not believed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The parameters are none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The parameters are too large.
    #[error("the parameters are {0}")]
    Wire(#[from] WireError),
    /// There is no shell to attach to.
    #[error("connection {0} has no shell that runs: `bz list-connections` lists what can be attached to")]
    NoShell(bz_core::id::ConnectionId),
}

/// What was asked, as the answer is checked against it.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) target: TargetRef,
    pub(super) user: Option<TargetUser>,
    pub(super) parameters: Parameters,
    pub(super) mode: Mode,
}

impl Client {
    /// Asks for a connection to a target, in the technology's own mode when none is named.
    ///
    /// After the agent has proved its key, call [`Client::met`].
    ///
    /// # Errors
    /// [`AskError`]; where the answer is refused here, the connection is closed again.
    pub async fn ask(
        &self,
        target: &TargetName,
        parameters: Parameters,
        mode: Option<Mode>,
    ) -> Result<Asked, AskError> {
        let question = Question::new(target, parameters, mode);
        let body = question.body()?;
        let made: ConnectionMade = self.rest.post(&self.caller().await, "connections/universal", &body).await?;
        let connection = made.connection_id;
        let asked = self.check(&question, made);
        if asked.is_err()
            && let Err(error) = self.close(connection).await
        {
            tracing::warn!(%connection, %error, "a connection that was refused here could not be closed");
        }
        asked
    }

    /// Asks for a grant to attach to a connection's shell.
    ///
    /// # Errors
    /// [`AskError`]; the shell and its connection stay as they are.
    pub async fn attach_grant(&self, connection: &Connection, size: Size) -> Result<Asked, AskError> {
        let shell = connection.shell_id.ok_or(AskError::NoShell(connection.id))?;
        let target = TargetName {
            user: connection.target_user.clone(),
            target: TargetRef::Name { name: connection.target_name.clone(), environment: None },
        };
        let question = Question::new(&target, Parameters::Attach { shell, size: size.clamped() }, None);
        let path = format!("connections/{}/shell/attach", connection.id);
        let body = AttachShell { size: size.clamped() };
        let made: ConnectionMade = self.rest.post(&self.caller().await, &path, &body).await?;
        made::same("connection", &connection.id, &made.connection_id)?;
        made::same("target", &connection.target_id, &made.target_id)?;
        self.check(&question, made)
    }

    /// Keeps what is known of an agent that has just proved its key: the end of its first contact.
    ///
    /// # Errors
    /// [`PinError`] when the key is another than known by now, or cannot be kept.
    pub fn met(&self, asked: &Asked) -> Result<(), PinError> {
        let meeting = Meeting { asked: &asked.name, made: &asked.made, first: self.first };
        pins::keep(&meeting, self.trust.bundle(), self.known.as_ref(), self.now())
    }

    fn check(&self, question: &Question, made: ConnectionMade) -> Result<Asked, AskError> {
        let (bundle, now) = (self.trust.bundle(), self.now());
        let checked = made::check(question, &made, (bundle, &self.login.get()), now)?;
        let name = acting(&question.target, &made);
        let meeting = Meeting { asked: &name, made: &made, first: self.first };
        let known_by = pins::check(&meeting, bundle, self.known.as_ref(), now)?;
        Ok(Asked {
            request: checked.request,
            request_bytes: checked.request_bytes,
            grant: checked.grant,
            known_by,
            name,
            made,
        })
    }
}

/// The name that the acting agent's key is pinned under: as typed, or that of the target which the asked one is behind.
fn acting(typed: &TargetRef, made: &ConnectionMade) -> TargetRef {
    made.proxy.as_ref().map_or_else(
        || typed.clone(),
        |by| TargetRef::Name { name: by.target_name.clone(), environment: Some(by.environment_name.clone()) },
    )
}

impl Question {
    fn new(name: &TargetName, parameters: Parameters, mode: Option<Mode>) -> Self {
        let mut question =
            Self { target: name.target.clone(), user: name.user.clone(), parameters, mode: Mode::Sealed };
        let own = question.request(TargetId::from_bytes([0; 16]), None).access().spec().mode;
        question.mode = mode.unwrap_or(own);
        question
    }

    /// The request, with the server's answers where the person left blanks.
    pub(super) fn request(&self, target: TargetId, user: Option<TargetUser>) -> Request {
        Request { target, user, mode: self.mode, parameters: self.parameters.clone() }
    }

    fn body(&self) -> Result<NewConnection, WireError> {
        Ok(NewConnection {
            target_id: self.target.id(),
            target_name: self.target.name().map(str::to_owned),
            environment_name: self.target.environment().map(str::to_owned),
            target_user: self.user.clone(),
            parameters: Some(Bytes(wire::encode(&self.parameters, MAX_REQUEST)?)),
            mode: Some(self.mode),
        })
    }
}
