//! `bz policy create kubernetes`.

use bz_client::client::Client;
use bz_client::target_name::TargetRef;
use bz_core::api::policy::{ClusterName, KubernetesContent, KubernetesPolicy, PolicyCluster};
use bz_core::api::virtual_target::KubeTarget;
use bz_core::label::LabelNeed;
use clap::Args;

use crate::command::group::named;
use crate::command::policy::create::{Whose, environments};

/// What `bz policy create kubernetes` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "What a user or group may do in the cluster is said by the role bindings there. The agent's own \
                  account must be allowed to impersonate them, and nothing else."
)]
#[command(group = clap::ArgGroup::new("where").args(["target", "environment", "label"]).required(true))]
pub(crate) struct Kubernetes {
    #[command(flatten)]
    whose: Whose,
    /// A cluster: target[.environment], or its id; may be given several times
    #[arg(long, short, alias = "targets", alias = "clusters", value_name = "CLUSTER")]
    target: Vec<TargetRef>,
    /// The clusters of an environment, by name; may be given several times
    #[arg(long, short, alias = "environments", value_name = "ENVIRONMENT")]
    environment: Vec<String>,
    /// What has labels of which this holds, such as role=web; may be given several times, and then all must
    #[arg(long, short, value_name = "NEED")]
    label: Vec<LabelNeed>,
    /// A user of the cluster; may be given several times
    #[arg(long, alias = "cluster-users", value_name = "USER", required = true)]
    cluster_user: Vec<String>,
    /// A group of the cluster; may be given several times
    #[arg(long, alias = "cluster-groups", value_name = "GROUP")]
    cluster_group: Vec<String>,
}

impl Kubernetes {
    pub(super) async fn create(self, client: &Client) -> anyhow::Result<KubernetesPolicy> {
        let mut clusters = Vec::new();
        for target in &self.target {
            clusters.push(PolicyCluster { id: client.find_virtual_target::<KubeTarget>(target).await?.base.id });
        }
        let names = |names: Vec<String>| names.into_iter().map(|name| ClusterName { name }).collect();
        let subjects = self.whose.subjects(client).await?;
        let content = KubernetesContent {
            name: self.whose.name,
            description: self.whose.description,
            subjects,
            groups: named(client, self.whose.group).await?,
            environments: environments(client, &self.environment).await?,
            target_labels: self.label,
            clusters,
            cluster_users: names(self.cluster_user),
            cluster_groups: names(self.cluster_group),
            ..KubernetesContent::default()
        };
        Ok(client.create_kubernetes_policy(&content).await?)
    }
}
