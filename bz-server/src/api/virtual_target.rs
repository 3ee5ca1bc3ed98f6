//! Virtual targets: databases, web servers and clusters behind hosts.

use std::sync::Arc;

use bz_core::access::destination::{Destination, Host};
use bz_core::access::upstream::Wire;
use bz_core::api::target::{TargetKind, TargetStatus, TargetUserName};
use bz_core::api::virtual_target::{
    DatabaseAuthentication, DatabaseTarget, KubeTarget, KubeTargetMade, NewVirtualTarget, Port, Remote,
    SplitCertDatabases, SupportedDatabase, VirtualTarget as Base, VirtualTargetMade, WebTarget,
};
use bz_core::database::{DATABASES, Database};
use bz_core::id::TargetId;
use serde::Serialize;

use crate::api::call::{check_name, check_text};
use crate::api::openapi::{Nothing, Whole};
use crate::api::page::{List, Listed};
use crate::api::target::given;
use crate::api::{Answer, Call, autodiscovery, target};
use crate::auth::Caller;
use crate::connection::aim::Aim;
use crate::connection::{self, question};
use crate::error::ApiError;
use crate::policy::{Index, Reach};
use crate::store::target::Target;
use crate::store::virtual_target::{Behind, VirtualTarget};

/// One kind of virtual target.
pub(super) trait Kind {
    /// Which.
    const KIND: TargetKind;
    /// How it is shown.
    type Shown: Serialize + Listed;

    /// It, as this caller sees it.
    fn shown(target: &VirtualTarget, base: Base, reach: Reach) -> Self::Shown;
}

/// Where a cluster's agent is, in the objects that make it.
const AGENT_NAMESPACE: &str = "bz-agent";

/// `targets/database`.
pub(super) struct Databases;
/// `targets/web`.
pub(super) struct WebServers;
/// `targets/kube`.
pub(super) struct Clusters;

impl Kind for Databases {
    const KIND: TargetKind = TargetKind::Db;
    type Shown = DatabaseTarget;

    fn shown(target: &VirtualTarget, base: Base, reach: Reach) -> DatabaseTarget {
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        DatabaseTarget {
            base,
            remote: remote(target, String::new()),
            database_authentication_config: DatabaseAuthentication {
                authentication_type: Some("Default".to_owned()),
                cloud_service_provider: None,
                database: named(&target.database),
                label: named(&target.label),
            },
            upstream_tls: target.tls,
            allowed_target_users: reach
                .users
                .into_iter()
                .map(|u| TargetUserName { user_name: u.allowed.rule })
                .collect(),
        }
    }
}

impl Kind for WebServers {
    const KIND: TargetKind = TargetKind::Web;
    type Shown = WebTarget;

    fn shown(target: &VirtualTarget, base: Base, _: Reach) -> WebTarget {
        let scheme = if target.tls { "https://" } else { "http://" };
        WebTarget { base, remote: remote(target, scheme.to_owned()) }
    }
}

impl Kind for Clusters {
    const KIND: TargetKind = TargetKind::Cluster;
    type Shown = KubeTarget;

    fn shown(_: &VirtualTarget, base: Base, reach: Reach) -> KubeTarget {
        let (allowed_cluster_users, allowed_cluster_groups) = reach.cluster;
        KubeTarget { base, allowed_cluster_users, allowed_cluster_groups }
    }
}

fn remote(target: &VirtualTarget, scheme: String) -> Remote {
    let host = target.remote.as_ref().map(|remote| match remote.host() {
        Host::Name(name) => name,
        Host::Address(address) => address.to_string(),
    });
    Remote {
        remote_host: scheme + &host.unwrap_or_default(),
        remote_port: Port { value: target.remote.as_ref().map(Destination::port) },
        local_port: Port { value: target.local_port },
        local_host: target.local_host.clone(),
    }
}

/// `GET targets/KIND`.
pub(super) async fn list<K: Kind>(call: Call) -> Result<Answer<List<K::Shown>>, ApiError> {
    let (names, ids) = (call.query("targetNames"), call.query("targetIds"));
    let environments = [call.query("envName"), call.query("envId")].concat();
    let labels = target::asked(&call)?;
    let world = Seen::of(&call).await?;
    let all = call.app.store.virtual_targets(K::KIND).await?.into_iter();
    let asked = |target: &VirtualTarget| {
        let (id, environment) = (target.id.to_string(), target.environment.to_string());
        labels.iter().all(|need| need.holds(&target.labels))
            && (names.is_empty() || names.contains(&target.name))
            && (ids.is_empty() || ids.contains(&id))
            && (environments.is_empty()
                || environments.contains(&environment)
                || environments.contains(&target.environment_name))
    };
    let shown = all.filter(asked).filter_map(|target| world.show::<K>(&call, &target));
    Answer::list(&call, shown.collect())
}

/// `GET targets/KIND/{id}`.
pub(super) async fn get<K: Kind>(call: Call) -> Result<Answer<K::Shown>, ApiError> {
    let target = find::<K>(&call).await?;
    let shown = Seen::of(&call).await?.show::<K>(&call, &target);
    Answer::json(&shown.ok_or_else(|| ApiError::not_found("target"))?)
}

/// `POST targets/KIND`.
pub(super) async fn add<K: Kind>(call: Call, new: NewVirtualTarget) -> Result<Answer<VirtualTargetMade>, ApiError> {
    call.note(new.target_name.clone());
    let id = TargetId::from_random(call.app.random()?);
    let target = made::<K>(&call, id, new).await?;
    call.note_context(id.to_string());
    call.app.store.keep_virtual_target(target).await?;
    Answer::json(&VirtualTargetMade { target_id: id })
}

/// `POST targets/kube`: a cluster behind a host, or what makes an agent in it, when nothing is named that it is behind.
pub(super) async fn add_cluster(call: Call, new: NewVirtualTarget) -> Result<Answer<KubeTargetMade>, ApiError> {
    if new.namespace.as_deref().is_some_and(|namespace| namespace != AGENT_NAMESPACE) {
        return Err(ApiError::field(
            "namespace",
            "must be bz-agent, or left out: the agent's role and account are there",
        ));
    }
    if new.proxy_target_id.is_some() || new.proxy_environment_id.is_some() {
        call.note(new.target_name.clone());
        let target = made::<Clusters>(&call, TargetId::from_random(call.app.random()?), new).await?;
        let target_id = Some(target.id);
        call.note_context(target.id.to_string());
        call.app.store.keep_virtual_target(target).await?;
        return Answer::json(&KubeTargetMade { target_id, ..KubeTargetMade::default() });
    }
    if new.labels.is_some() {
        return Err(ApiError::field("labels", "a target gets them when it is there: PATCH targets/bzero/{id}"));
    }
    let environment = match (new.environment_id, &new.environment_name) {
        (None, Some(name)) => {
            let all = call.app.store.environments().await?;
            let found = all.iter().find(|e| e.name == *name).ok_or_else(|| ApiError::not_found("environment"))?;
            Some(found.id)
        }
        (id, _) => id,
    };
    let script = autodiscovery::cluster(&call, new.target_name, environment).await?;
    let activation_token = script.registration_token.map(|token| token.secret);
    let yaml = Some(script.autodiscovery_script);
    Ok(Answer::json(&KubeTargetMade { target_id: None, yaml, activation_token })?.kept_nowhere())
}

/// `GET targets/database/supported-databases`.
pub(super) async fn split_cert(_: Call) -> Result<Answer<SplitCertDatabases>, ApiError> {
    Answer::json(&SplitCertDatabases::default())
}

/// `PATCH targets/KIND/{id}`: what is given changes, and connections to the place as it was end.
pub(super) async fn edit<K: Kind>(call: Call, change: NewVirtualTarget) -> Result<Answer<K::Shown>, ApiError> {
    let old = find::<K>(&call).await?;
    call.note(old.name.clone());
    let new = made::<K>(&call, old.id, over(&old, change)).await?;
    // What names it, and what it is labelled with, is nothing that a connection goes to.
    let (name, label, labels) = (old.name.clone(), old.label.clone(), old.labels.clone());
    let moved = VirtualTarget { name, label, labels, created: old.created, ..new.clone() } != old;
    let new_labels = new.labels.clone();
    call.app.store.keep_virtual_target(VirtualTarget { created: old.created, ..new }).await?;
    if moved {
        let by = connection::administrator(&call.caller);
        connection::close_all_on(&call.app, old.id, &by, "the target was changed").await?;
    }
    if new_labels != old.labels {
        connection::recheck(&call.app, &connection::administrator(&call.caller)).await?;
    }
    get::<K>(call).await
}

/// `DELETE targets/KIND/{id}`: closes its connections, too.
pub(super) async fn delete<K: Kind>(call: Call) -> Result<Answer<Nothing>, ApiError> {
    let target = find::<K>(&call).await?;
    call.note(target.name.clone());
    let by = connection::administrator(&call.caller);
    call.app.store.delete_virtual_target(target.id).await?;
    connection::close_all_on(&call.app, target.id, &by, "the target was deleted").await?;
    Ok(Answer::empty())
}

/// `GET targets/database/supported-database-configs`.
pub(super) async fn supported(_: Call) -> Result<Answer<Whole<SupportedDatabase>>, ApiError> {
    let row = |row: &Database| {
        let authentication_type = "Default".to_owned();
        let query_log = row.wire != Wire::Plain;
        SupportedDatabase { authentication_type, database: row.name.to_owned(), port: row.port, query_log }
    };
    Answer::whole(&DATABASES.iter().map(row).collect::<Vec<_>>())
}

async fn find<K: Kind>(call: &Call) -> Result<VirtualTarget, ApiError> {
    let target = call.app.store.virtual_target(call.id()?).await?.filter(|target| target.kind == K::KIND);
    target.ok_or_else(|| ApiError::not_found("target"))
}

/// What is needed to show any of them.
struct Seen {
    policies: Arc<Index>,
    hosts: Vec<Target>,
    everything: bool,
}

impl Seen {
    async fn of(call: &Call) -> Result<Self, ApiError> {
        Ok(Self {
            policies: call.app.policies().await?,
            hosts: call.app.store.targets().await?,
            everything: call.has("targetservice:list-all"),
        })
    }

    /// `None` when no policy gives anything there and the caller does not see everything.
    fn show<K: Kind>(&self, call: &Call, target: &VirtualTarget) -> Option<K::Shown> {
        let base = Base {
            id: target.id,
            name: target.name.clone(),
            status: status(target, &self.hosts),
            environment_id: target.environment,
            environment_name: target.environment_name.clone(),
            proxy_target_id: if let Behind::Target(id) = target.behind { Some(id) } else { None },
            proxy_environment_id: if let Behind::Environment(id) = target.behind { Some(id) } else { None },
            region: "self-hosted".to_owned(),
            labels: target.labels.clone(),
        };
        let aim = Aim::Behind(Box::new(target.clone()));
        let reach = match &call.caller {
            Caller::Person(who) => {
                let what = (aim.verb(), None, aim.mode());
                call.app.engine.reach(&question(who, &aim, what, call.now()).about(&self.policies))
            }
            Caller::Anonymous | Caller::Key(_) | Caller::Hook(_) => Reach::default(),
        };
        let seen = self.everything || !reach.verbs.is_empty();
        seen.then(|| K::shown(target, base, reach))
    }
}

/// Whether any of these hosts is there to reach it.
pub(super) fn status(target: &VirtualTarget, hosts: &[Target]) -> TargetStatus {
    let reaches = |host: &&Target| match target.behind {
        Behind::Target(id) => host.id == id,
        Behind::Environment(id) => host.environment == id,
    };
    let online = hosts.iter().filter(reaches).any(|host| host.status == TargetStatus::Online);
    if online { TargetStatus::Online } else { TargetStatus::Offline }
}

/// Where it is, as its kind shows it.
pub(super) fn place_of(target: &VirtualTarget) -> Option<Remote> {
    match target.kind {
        TargetKind::Db => Some(remote(target, String::new())),
        TargetKind::Web => Some(remote(target, if target.tls { "https://" } else { "http://" }.to_owned())),
        TargetKind::Bzero | TargetKind::Cluster => None,
    }
}

/// The body that would make what is there, with what is given in its place.
fn over(old: &VirtualTarget, change: NewVirtualTarget) -> NewVirtualTarget {
    let elsewhere = change.proxy_target_id.is_some() || change.proxy_environment_id.is_some();
    let kept = |id: Option<TargetId>| if elsewhere { None } else { id };
    let (target, environment) = match old.behind {
        Behind::Target(id) => (kept(Some(id)), None),
        Behind::Environment(id) => (None, (!elsewhere).then_some(id)),
    };
    let place = remote(old, if old.tls { "https://" } else { "http://" }.to_owned());
    let host = if old.kind == TargetKind::Web { place.remote_host } else { remote(old, String::new()).remote_host };
    let there = old.remote.is_some();
    let moved = change.environment_id.is_some() || change.environment_name.is_some();
    NewVirtualTarget {
        target_name: if change.target_name.is_empty() { old.name.clone() } else { change.target_name },
        proxy_target_id: change.proxy_target_id.or(target),
        proxy_environment_id: change.proxy_environment_id.or(environment),
        remote_host: change.remote_host.or_else(|| there.then_some(host)),
        remote_port: change.remote_port.or_else(|| there.then_some(place.remote_port)),
        local_port: change.local_port.or(Some(place.local_port)),
        local_host: change.local_host.or_else(|| old.local_host.clone()),
        environment_id: change.environment_id.or_else(|| (!moved).then_some(old.environment)),
        environment_name: change.environment_name,
        database_authentication_config: change.database_authentication_config.or_else(|| {
            let named = |text: &String| (!text.is_empty()).then(|| text.clone());
            let (database, label) = (named(&old.database), named(&old.label));
            (old.kind == TargetKind::Db).then(|| DatabaseAuthentication { database, label, ..Default::default() })
        }),
        database_type: change.database_type,
        upstream_tls: change.upstream_tls.or_else(|| (old.kind == TargetKind::Db).then_some(old.tls)),
        labels: change.labels.or_else(|| Some(old.labels.clone())),
        namespace: None,
    }
}

/// The target that a body means.
async fn made<K: Kind>(call: &Call, id: TargetId, new: NewVirtualTarget) -> Result<VirtualTarget, ApiError> {
    check_name("targetName", &new.target_name)?;
    let environments = call.app.store.environments().await?;
    let environment = match (new.environment_id, &new.environment_name) {
        (Some(id), _) => environments.iter().find(|e| e.id == id),
        (None, Some(name)) => environments.iter().find(|e| e.name == *name),
        (None, None) => environments.iter().find(|e| e.is_default),
    };
    let environment = environment.ok_or_else(|| ApiError::not_found("environment"))?;
    let behind = match (new.proxy_target_id, new.proxy_environment_id) {
        (Some(id), None) => {
            call.app.store.target(id).await?.ok_or_else(|| ApiError::field("proxyTargetId", "names no target"))?;
            Behind::Target(id)
        }
        (None, Some(id)) if environments.iter().any(|e| e.id == id) => Behind::Environment(id),
        (None, Some(_)) => return Err(ApiError::field("proxyEnvironmentId", "names no environment")),
        (Some(_), Some(_)) | (None, None) => {
            return Err(ApiError::field(
                "proxyTargetId",
                "name the target it is behind, or the environment: one of them",
            ));
        }
    };
    let authentication = new.database_authentication_config.clone().unwrap_or_default();
    let row = database::<K>(&new, &authentication)?;
    let (remote, tls) = place::<K>(&new, row)?;
    let label = authentication.label.unwrap_or_default();
    check_text("label", &label, 100)?;
    if new.local_host.as_deref().is_some_and(|host| host != "localhost" && host.parse::<std::net::IpAddr>().is_err()) {
        return Err(ApiError::field("localHost", "must be an address of the client's machine, or localhost"));
    }
    Ok(VirtualTarget {
        id,
        kind: K::KIND,
        name: new.target_name,
        environment: environment.id,
        environment_name: environment.name.clone(),
        behind,
        remote,
        tls,
        database: row.name.to_owned(),
        label,
        local_host: new.local_host,
        local_port: new.local_port.and_then(|port| port.value).filter(|port| *port != 0),
        created: call.now(),
        labels: given(new.labels.unwrap_or_default())?,
    })
}

fn database<K: Kind>(
    new: &NewVirtualTarget,
    authentication: &DatabaseAuthentication,
) -> Result<&'static Database, ApiError> {
    if K::KIND != TargetKind::Db && (new.database_type.is_some() || new.database_authentication_config.is_some()) {
        return Err(ApiError::field("databaseAuthenticationConfig", "only databases have one"));
    }
    if authentication.authentication_type.as_deref().is_some_and(|kind| kind != "Default")
        || authentication.cloud_service_provider.is_some()
    {
        let rule = "only Default is supported: with the account and password that the database knows";
        return Err(ApiError::field("authenticationType", rule));
    }
    let name = authentication.database.as_deref().or(new.database_type.as_deref()).unwrap_or_default();
    let names: Vec<_> = DATABASES.iter().map(|row| row.name).collect();
    Database::named(name)
        .ok_or_else(|| ApiError::field("database", &format!("must be one of {}, or left out", names.join(", "))))
}

/// Where it is, and whether the agent speaks TLS to it.
fn place<K: Kind>(new: &NewVirtualTarget, row: &Database) -> Result<(Option<Destination>, bool), ApiError> {
    if K::KIND == TargetKind::Cluster {
        let none = new.remote_host.is_none() && new.remote_port.is_none();
        let rule = "a cluster has none: its agent is in it, or is told where it is";
        return if none { Ok((None, false)) } else { Err(ApiError::field("remoteHost", rule)) };
    }
    let host = new.remote_host.as_deref().ok_or_else(|| ApiError::field("remoteHost", "is needed"))?;
    let asked = new.remote_port.and_then(|port| port.value).filter(|port| *port != 0);
    let (host, port, tls) = if K::KIND == TargetKind::Web {
        match (host.strip_prefix("https://"), host.strip_prefix("http://")) {
            (Some(host), _) => (host, asked.unwrap_or(443), true),
            (None, Some(host)) => (host, asked.unwrap_or(80), false),
            (None, None) => return Err(ApiError::field("remoteHost", "must begin with http:// or https://")),
        }
    } else {
        let port = asked.or_else(|| (row.port != 0).then_some(row.port));
        (host, port.ok_or_else(|| ApiError::field("remotePort", "is needed"))?, new.upstream_tls.unwrap_or_default())
    };
    let rule = "must be a name or an address, without a port or a path";
    let remote = Destination::new(host.trim_end_matches('/'), port).map_err(|_| ApiError::field("remoteHost", rule))?;
    let tls = match (K::KIND, row.wire, new.upstream_tls) {
        (TargetKind::Db, Wire::Plain, Some(true)) => {
            let rule = "the agent does not know what this speaks: its programs speak TLS themselves";
            return Err(ApiError::field("upstreamTls", rule));
        }
        (TargetKind::Db, Wire::Postgres | Wire::Mysql, None) => !is_local(&remote),
        _ => tls,
    };
    Ok((Some(remote), tls))
}

/// Whether it is the agent's own host, where nobody is in between.
fn is_local(remote: &Destination) -> bool {
    match remote.host() {
        Host::Name(name) => name == "localhost",
        Host::Address(address) => address.is_loopback(),
    }
}
