//! Streams opened later: each is checked against the grant's scope and the local policy, by name before it is looked up
//! and by address before it is dialled.

use std::net::{IpAddr, SocketAddr};

use bz_core::access::destination::{Destination, DestinationRule};
use bz_core::grant::Scope;

use crate::gate::{Admitted, Denial, Gate, LocalRule, question};

/// An address that grant and local policy allow for a stream: what may be dialled, and nothing else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialable(SocketAddr);

impl Dialable {
    /// The address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0
    }
}

impl Gate {
    /// Whether a session may have a stream to this destination, before its name is looked up.
    ///
    /// # Errors
    /// [`Denial::Destination`] outside the grant's scope; [`Denial::Local`] and [`Denial::LocalUnusable`].
    pub fn may_lead(&self, admitted: &Admitted, destination: &Destination) -> Result<(), Denial> {
        self.leads_to(admitted, destination, None)
    }

    /// Whether it may have one to this address of the destination.
    ///
    /// # Errors
    /// As [`Self::may_lead`].
    pub fn leads(&self, admitted: &Admitted, destination: &Destination, address: IpAddr) -> Result<Dialable, Denial> {
        self.leads_to(admitted, destination, Some(address))?;
        Ok(Dialable(SocketAddr::new(address, destination.port())))
    }

    fn leads_to(&self, admitted: &Admitted, destination: &Destination, address: Option<IpAddr>) -> Result<(), Denial> {
        let Scope::Destinations(rules) = &admitted.grant.scope else { return Err(Denial::Destination) };
        let means = |rule: &DestinationRule| match address {
            Some(address) => rule.means(destination, address),
            None => rule.may_mean(destination),
        };
        if !rules.iter().any(means) {
            return Err(Denial::Destination);
        }
        match &self.local {
            LocalRule::Unrestricted => Ok(()),
            LocalRule::RefuseAll(why) => Err(Denial::LocalUnusable(why.clone())),
            LocalRule::Policy(policy) => {
                let verb = admitted.request.verb();
                let question = question(&admitted.certificate, &admitted.grant, &admitted.request, &verb);
                policy.decide_destination(&question, destination, address)?;
                Ok(())
            }
        }
    }
}
