//! Databases, web servers and clusters behind targets: listed, made, removed.

use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::{
    DatabaseTarget, KubeTarget, NewVirtualTarget, VirtualTarget, VirtualTargetMade, WebTarget,
};
use bz_core::id::TargetId;
use bz_core::label::LabelNeed;
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::client::{Client, FindError, only};
use crate::rest::RestError;
use crate::target_name::TargetRef;

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
        self.virtual_targets_labelled(&[]).await
    }

    /// Those of whose labels all this holds.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn virtual_targets_labelled<V: Virtual>(&self, needs: &[LabelNeed]) -> Result<Vec<V>, RestError> {
        let needs: Vec<_> = needs.iter().map(ToString::to_string).collect();
        self.get(path(V::KIND), &needs.iter().map(|need| ("label", need.as_str())).collect::<Vec<_>>()).await
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

    /// One virtual target: what all kinds have.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn virtual_target(&self, (kind, id): (TargetKind, TargetId)) -> Result<VirtualTarget, RestError> {
        self.get(&format!("{}/{id}", path(kind)), &[]).await
    }

    /// Changes a virtual target: what is given, and nothing else (for administrators).
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn edit_virtual_target(
        &self,
        (kind, id): (TargetKind, TargetId),
        change: &NewVirtualTarget,
    ) -> Result<VirtualTarget, RestError> {
        self.rest.patch(&self.caller().await, &format!("{}/{id}", path(kind)), change).await
    }

    /// Removes a target of any kind (for administrators); its connections end.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn delete_target(&self, kind: TargetKind, id: TargetId) -> Result<(), RestError> {
        self.act(Method::DELETE, &format!("{}/{id}", path(kind))).await
    }
}
