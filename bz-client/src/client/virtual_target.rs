//! Databases, web servers and clusters behind targets: listed, made, removed.

use bz_core::api::target::{ChangeTarget, TargetKind};
use bz_core::api::virtual_target::{
    DatabaseTarget, KubeTarget, NewVirtualTarget, VirtualTarget, VirtualTargetMade, WebTarget,
};
use bz_core::id::TargetId;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::{Client, FindError, only};
use crate::rest::RestError;
use crate::target_name::TargetRef;

/// What a target of any kind is called now, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedTarget {
    /// Which.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// Its environment's name.
    pub environment_name: String,
}

/// One kind of virtual target.
pub trait Virtual: DeserializeOwned {
    /// Which.
    const KIND: TargetKind;

    /// What all virtual targets have.
    fn base(&self) -> &VirtualTarget;
}

impl Virtual for DatabaseTarget {
    const KIND: TargetKind = TargetKind::Db;

    fn base(&self) -> &VirtualTarget {
        &self.base
    }
}

impl Virtual for WebTarget {
    const KIND: TargetKind = TargetKind::Web;

    fn base(&self) -> &VirtualTarget {
        &self.base
    }
}

impl Virtual for KubeTarget {
    const KIND: TargetKind = TargetKind::Cluster;

    fn base(&self) -> &VirtualTarget {
        &self.base
    }
}

const fn path(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Bzero => "targets/bzero",
        TargetKind::Db => "targets/database",
        TargetKind::Web => "targets/web",
        TargetKind::Cluster => "targets/kube",
    }
}

impl Client {
    /// The virtual targets of a kind that the caller may know of.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn virtual_targets<V: Virtual>(&self) -> Result<Vec<V>, RestError> {
        self.get(path(V::KIND), &[]).await
    }

    /// The one virtual target of a kind with this name or id.
    ///
    /// # Errors
    /// [`FindError`], which names the candidates where several fit.
    pub async fn find_virtual_target<V: Virtual>(&self, wanted: &TargetRef) -> Result<V, FindError> {
        let fitting: Vec<V> = self.named(V::KIND, wanted).await?;
        only(wanted, fitting, |target| format!("{}.{}", target.base().name, target.base().environment_name))
    }

    /// The kind of the virtual target with this name or id, where there is one that the caller may know of.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn kind_behind(&self, wanted: &TargetRef) -> Result<Option<TargetKind>, RestError> {
        for kind in [TargetKind::Db, TargetKind::Web, TargetKind::Cluster] {
            let found: Vec<VirtualTarget> = self.named(kind, wanted).await?;
            if !found.is_empty() {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    async fn named<T: DeserializeOwned>(&self, kind: TargetKind, wanted: &TargetRef) -> Result<Vec<T>, RestError> {
        let (id, name) = (wanted.id().map(|id| id.to_string()), wanted.name());
        let asked = [("targetIds", id.as_deref()), ("targetNames", name), ("envName", wanted.environment())];
        let query: Vec<_> = asked.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        self.get(path(kind), &query).await
    }

    /// Makes a virtual target (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn create_virtual_target(
        &self,
        kind: TargetKind,
        new: &NewVirtualTarget,
    ) -> Result<VirtualTargetMade, RestError> {
        self.rest.post(&self.caller().await, path(kind), new).await
    }

    /// Gives a target of any kind another name or environment (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn edit_target_of(
        &self,
        (kind, id): (TargetKind, TargetId),
        change: &ChangeTarget,
    ) -> Result<MovedTarget, RestError> {
        let path = format!("{}/{id}", path(kind));
        let ChangeTarget { target_name, environment_id } = change.clone();
        if kind == TargetKind::Bzero {
            return self.rest.patch(&self.caller().await, &path, change).await;
        }
        let target_name = target_name.unwrap_or_default();
        let change = NewVirtualTarget { target_name, environment_id, ..NewVirtualTarget::default() };
        self.rest.patch(&self.caller().await, &path, &change).await
    }

    /// Removes a target of any kind (for administrators); its connections end.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_target(&self, kind: TargetKind, id: TargetId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("{}/{id}", path(kind))).await
    }
}
