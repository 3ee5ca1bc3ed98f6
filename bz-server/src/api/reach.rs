//! What somebody may reach, by the way of reaching it.

use std::sync::Arc;

use bz_core::access::{Access, Verb};
use bz_core::api::access::{Connection as ConnectionBody, ConnectionState};
use bz_core::api::reach::{AccessDetails, ActingAgent, Reachable, TargetsByAccess};
use bz_core::api::target::{TargetKind, TargetUserName};

use crate::api::{Answer, Call, connection, virtual_target, why};
use crate::auth::LoggedIn;
use crate::connection::aim::Aim;
use crate::connection::question;
use crate::error::ApiError;
use crate::policy::{Index, Reach};
use crate::store::connection::{Connection, ConnectionFilter};
use crate::store::target::Target;
use crate::store::virtual_target::{Behind, VirtualTarget};

/// `GET targets`.
pub(super) async fn list(call: Call) -> Result<Answer<TargetsByAccess>, ApiError> {
    let everything = call.flag("allTargetsInOrg");
    if everything && !call.has("targetservice:list-all") {
        return Err(ApiError::denied("only administrators see all targets"));
    }
    let email = call.query("userEmail").pop();
    // A key has no sessions of its own, so it names somebody or asks for everything.
    let who = match (call.person(), &email) {
        (Err(error), None) if !everything => return Err(error),
        (Err(_), None) => None,
        (Ok(_), _) | (Err(_), Some(_)) => Some(why::about(&call, email.as_deref()).await?),
    };
    let mut world = World::of(&call, who, everything).await?;
    let mut all = TargetsByAccess::default();
    for target in std::mem::take(&mut world.hosts_to_show) {
        let aim = Aim::Host(Box::new(target));
        let reach = world.decide(&call, &aim);
        let lists = [
            (&mut all.shell, Verb::Shell, &[Access::Shell, Access::Exec][..]),
            (&mut all.ssh, Verb::Tunnel, &[Access::Ssh, Access::SshServer, Access::Tunnel]),
            (&mut all.file_transfer, Verb::FileTransfer, &[Access::Copy]),
        ];
        for (list, verb, ways) in lists {
            // Whoever may have shells or files may have them over ssh.
            let over_ssh = verb == Verb::Tunnel && reach.verbs.iter().any(|v| *v != Verb::Tunnel && !v.is_handler());
            if world.everything || over_ssh || reach.verbs.contains(&verb) {
                list.push(world.show(&aim, &reach, ways));
            }
        }
    }
    let lists = [
        (&mut all.db, TargetKind::Db, &[Access::Database, Access::Tcp][..]),
        (&mut all.web, TargetKind::Web, &[Access::Web]),
        (&mut all.kubernetes, TargetKind::Cluster, &[Access::Kube]),
    ];
    for (list, kind, ways) in lists {
        for target in call.app.store.virtual_targets(kind).await? {
            let aim = Aim::Behind(Box::new(target));
            let reach = world.decide(&call, &aim);
            if world.everything || !reach.verbs.is_empty() {
                list.push(world.show(&aim, &reach, ways));
            }
        }
    }
    Answer::json(&all)
}

/// What is needed to show any target.
struct World {
    who: Option<LoggedIn>,
    everything: bool,
    policies: Arc<Index>,
    hosts: Vec<Target>,
    hosts_to_show: Vec<Target>,
    connections: Vec<(Connection, ConnectionBody)>,
}

impl World {
    async fn of(call: &Call, who: Option<LoggedIn>, everything: bool) -> Result<Self, ApiError> {
        let states = connection::states(call)?;
        let user = who.as_ref().map(|who| who.user.id);
        let closed = states.contains(&ConnectionState::Closed);
        let filter = ConnectionFilter { user, closed, ..ConnectionFilter::default() };
        let found = call.app.store.connections(filter).await?;
        let shown = found.into_iter().map(|found| {
            let body = connection::show(&found);
            (found, body)
        });
        let hosts = call.app.store.targets().await?;
        Ok(Self {
            everything,
            policies: call.app.policies().await?,
            hosts_to_show: hosts.clone(),
            hosts,
            connections: shown.filter(|(_, body)| states.contains(&body.state)).collect(),
            who,
        })
    }

    fn decide(&self, call: &Call, aim: &Aim) -> Reach {
        let Some(who) = &self.who else { return Reach::default() };
        let asked = question(who, aim, (aim.verb(), None, aim.mode()), call.now());
        call.app.engine.reach(&asked.about(&self.policies))
    }

    fn show(&self, aim: &Aim, reach: &Reach, ways: &[Access]) -> Reachable {
        let (host, remote) = match aim {
            Aim::Host(target) => (Some(target.as_ref()), None),
            Aim::Behind(target) => (self.host_of(target), virtual_target::place_of(target)),
        };
        let status = match aim {
            Aim::Host(target) => target.status,
            Aim::Behind(target) => virtual_target::status(target, &self.hosts),
        };
        let to_it =
            |found: &&(Connection, ConnectionBody)| found.0.target == aim.id() && ways.contains(&found.0.access);
        let (environment_id, environment_name) = aim.environment();
        Reachable {
            id: aim.id(),
            name: aim.name().to_owned(),
            status,
            environment_id,
            environment_name: environment_name.to_owned(),
            agent: host.map(|host| ActingAgent {
                id: host.id,
                version: host.version.clone(),
                public_key: host.identity_key,
            }),
            access_details: AccessDetails { jit: false },
            allowed_target_users: reach
                .users
                .iter()
                .map(|user| TargetUserName { user_name: user.allowed.rule.clone() })
                .collect(),
            allowed_verbs: reach.verbs.clone(),
            allowed_cluster_users: reach.cluster.0.clone(),
            allowed_cluster_groups: reach.cluster.1.clone(),
            remote_host: remote.as_ref().map(|remote| remote.remote_host.clone()),
            remote_port: remote.as_ref().map(|remote| remote.remote_port),
            local_host: remote.as_ref().and_then(|remote| remote.local_host.clone()),
            local_port: remote.as_ref().map(|remote| remote.local_port),
            connections: self.connections.iter().filter(to_it).map(|(_, body)| body.clone()).collect(),
        }
    }

    /// The one host whose agent acts for it.
    fn host_of(&self, target: &VirtualTarget) -> Option<&Target> {
        let Behind::Target(id) = target.behind else { return None };
        self.hosts.iter().find(|host| host.id == id)
    }
}
