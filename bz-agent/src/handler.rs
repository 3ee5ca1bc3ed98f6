//! The open door: a route that the embedding program serves itself.

use std::sync::Arc;

use bz_core::api::target::Route;
use bz_core::grant::Grant;
use bz_core::oidc::Claims;
use bz_protocol::carrier::{Boxed, Stream};

/// One call of a route: who, on what grant, and the stream. Nothing else of the agent.
#[derive(Debug)]
pub struct Call {
    /// Who, as the identity provider proved.
    pub identity: Claims,
    /// The server's grant.
    pub grant: Grant,
    /// Bytes to and from the person, authenticated end to end.
    pub stream: Box<dyn Stream>,
}

/// Serves a route.
pub trait Handler: Send + Sync + 'static {
    /// Serves one call. The session ends when this does.
    fn serve(&self, call: Call) -> Boxed<'_, std::io::Result<()>>;
}

impl<F, R> Handler for F
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = std::io::Result<()>> + Send + 'static,
{
    fn serve(&self, call: Call) -> Boxed<'_, std::io::Result<()>> {
        Box::pin(self(call))
    }
}

/// A route and who serves it.
pub(crate) struct Routed {
    pub(crate) route: Route,
    pub(crate) handler: Arc<dyn Handler>,
}
