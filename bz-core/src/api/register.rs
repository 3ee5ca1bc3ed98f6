//! Registering an agent: `POST agent/register` with a registration key in `X-API-KEY`.

use serde::{Deserialize, Serialize};

use crate::api::Bytes;
use crate::digest::{Digest, Label};
use crate::id::{OrganizationId, TargetId};
use crate::key::{BadSignature, PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};
use crate::label::Labels;
use crate::time::UnixTime;

/// `POST agent/register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RegisterAgent {
    /// The agent's identity key: what sessions are proved under.
    pub public_key: PublicKey,
    /// The agent's control key: what its link is proved under.
    pub control_key: PublicKey,
    /// By the identity key, over everything else here.
    pub identity_proof: Bytes,
    /// By the control key, over the same.
    pub control_proof: Bytes,
    /// The organization.
    pub organization_id: OrganizationId,
    /// When this was made; a server accepts it for ten minutes.
    pub time: UnixTime,
    /// The agent's version.
    pub version: String,
    /// The target's name, unique in its environment.
    pub target_name: String,
    /// The host's own name.
    pub target_host_name: String,
    /// The environment's name; the default one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// Whether the host's owner keeps a local policy file: then the agent refuses everything without one.
    #[serde(default)]
    pub local_policy: bool,
    /// The target this replaces, proved by its old identity key; the old one stays until this succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_id: Option<TargetId>,
    /// What the agent says of its own host. No policy is about these: they are shown, and lists are filtered by them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The answer to [`RegisterAgent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentRegistered {
    /// The target.
    pub target_id: TargetId,
    /// Its name.
    pub target_name: String,
    /// Its environment's name.
    pub environment_name: String,
}

impl RegisterAgent {
    /// Fills both proofs.
    pub fn prove(&mut self, identity: &PrivateKey, control: &PrivateKey) {
        let claim = self.claim();
        self.identity_proof = Bytes(identity.sign(Label::RegisterIdentity, claim.as_bytes()).as_bytes().to_vec());
        self.control_proof = Bytes(control.sign(Label::RegisterControl, claim.as_bytes()).as_bytes().to_vec());
    }

    /// Checks both proofs.
    ///
    /// # Errors
    /// [`BadSignature`] when either key did not sign this registration.
    pub fn check(&self) -> Result<(), BadSignature> {
        let claim = self.claim();
        let parse = |bytes: &Bytes| {
            <[u8; SIGNATURE_BYTES]>::try_from(bytes.0.as_slice()).map(Signature::from_bytes).map_err(|_| BadSignature)
        };
        self.public_key.verify(Label::RegisterIdentity, claim.as_bytes(), &parse(&self.identity_proof)?)?;
        self.control_key.verify(Label::RegisterControl, claim.as_bytes(), &parse(&self.control_proof)?)
    }

    fn claim(&self) -> Digest {
        let environment = self.environment_name.as_deref().unwrap_or_default();
        let target = self.target_id.map(|t| t.to_string()).unwrap_or_default();
        let (identity, control) = (self.public_key.to_bytes(), self.control_key.to_bytes());
        let (time, local) = (self.time.as_millis().to_be_bytes(), [u8::from(self.local_policy)]);
        let mut parts: Vec<&[u8]> = vec![
            self.organization_id.as_bytes(),
            &identity,
            &control,
            &time,
            self.target_name.as_bytes(),
            self.target_host_name.as_bytes(),
            environment.as_bytes(),
            target.as_bytes(),
            &local,
        ];
        // Nothing where there are none, as agents sign that know of none.
        parts.extend(self.labels.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
        Digest::labelled(Label::RegisterIdentity, &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_proved_by_both_keys() {
        let key = |seed| PrivateKey::from_seed(&[seed; 32]).unwrap();
        let mut good = RegisterAgent {
            public_key: key(1).public(),
            control_key: key(2).public(),
            identity_proof: Bytes(vec![]),
            control_proof: Bytes(vec![]),
            organization_id: OrganizationId::from_bytes([1; 16]),
            time: UnixTime::from_secs(1),
            version: "0".to_owned(),
            target_name: "web".to_owned(),
            target_host_name: "web-1".to_owned(),
            environment_name: None,
            local_policy: false,
            target_id: None,
            labels: Default::default(),
        };
        assert_eq!(good.check(), Err(BadSignature));
        good.prove(&key(1), &key(2));
        assert_eq!(good.check(), Ok(()));
        let check = |change: fn(&mut RegisterAgent)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(bad.check(), Err(BadSignature));
        };
        check(|r| r.target_name = "db".to_owned());
        check(|r| r.local_policy = true);
        check(|r| r.time = UnixTime::from_secs(2));
        check(|r| std::mem::swap(&mut r.identity_proof, &mut r.control_proof));
        let mut wrong = good.clone();
        wrong.prove(&key(3), &key(2));
        assert_eq!(wrong.check(), Err(BadSignature));
    }
}
