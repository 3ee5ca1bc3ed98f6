//! What clients of the original ask for and what is done by other means here: each call is answered with what to do.

use crate::api::openapi::Nothing;
use crate::api::{Answer, Call};
use crate::error::ApiError;

macro_rules! elsewhere {
    ($($(#[$doc:meta])* $name:ident = $instead:literal;)*) => {$(
        $(#[$doc])*
        pub(super) async fn $name(_: Call) -> Result<Answer<Nothing>, ApiError> {
            Err(ApiError::bad_request($instead))
        }
    )*};
}

elsewhere! {
    /// `POST connections/KIND`: a session begins with a request that the person's own client signed, which these bodies lack.
    connect = "a connection of any kind is asked for by POST connections/universal, with a request that the client signs \
               by the key of its login: `bz connect`, `bz forward`, `bz ssh-proxy`, or the crate bz-client";
    /// `POST targets/bzero/restart`.
    restart = "no server restarts an agent: its service manager does, on its host, and shells outlive that";
    /// `POST targets/bzero/retrieve-logs`.
    logs = "no server fetches an agent's own logs: they are with its host's other logs, such as journalctl -u bz-agent";
    /// `POST targets/bzero/update-config`.
    configure = "no server configures an agent: its host's owner does, by its options and its local policy";
}
