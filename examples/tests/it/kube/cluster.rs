//! A real API server on loopback, with its etcd, and one node whose pods are processes of this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::port::free;
use bz_agent::kube::Cluster as AgentCluster;
use bz_examples::needs;
use tokio::time::Instant;

/// Far above what it needs, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// Who may do everything, for what the test itself sets up.
const ADMIN: &str = "admin-token";
/// The agent, which may impersonate and nothing else.
const AGENT: &str = "agent-token";

/// It runs until this is dropped.
pub(crate) struct Cluster {
    folder: PathBuf,
    server: SocketAddr,
    _running: Vec<Killed>,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).unwrap_or_default();
    }
}

impl Cluster {
    /// One with the namespace `shop` and the pods `web-0` and, on a node that is gone, `gone-0` in it; `None` where there is none to start.
    pub(crate) async fn start(folder: &Path) -> Option<Self> {
        let peers = needs::kubernetes()?;
        if !["kubectl", "openssl", "curl", "tar"].map(needs::program).into_iter().all(|here| here) {
            return None;
        }
        let folder = folder.join("cluster");
        std::fs::create_dir(&folder).unwrap();
        let [etcd, peer, server, node] = [(); 4].map(|()| free());
        certificates(&folder);
        let tokens = format!("{ADMIN},admin,1,system:masters\n{AGENT},system:serviceaccount:bz:agent,2,\n");
        std::fs::write(folder.join("tokens.csv"), tokens).unwrap();
        std::fs::write(folder.join("agent-token"), AGENT).unwrap();
        let run = |program: &str, arguments: Vec<String>| {
            let log = std::fs::File::create(folder.join(format!("{program}.log"))).unwrap();
            let mut command = Command::new(peers.join(program));
            command.args(arguments).current_dir(&folder).stdin(Stdio::null());
            Killed(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
        };
        let mut running = vec![
            run("etcd", etcd_flags(etcd, peer)),
            run("kubelet", vec![node.to_string(), "server.crt".into(), "server.key".into()]),
        ];
        running.push(run("kube-apiserver", server_flags(etcd, server)));
        let cluster = Self { folder, server, _running: running };
        cluster.ready(node).await;
        cluster.furnish(node).await;
        Some(cluster)
    }

    /// The way to it for an agent.
    pub(crate) fn for_agent(&self) -> AgentCluster {
        let server = self.server.to_string().parse().unwrap();
        AgentCluster::new(server, self.folder.join("ca.crt"), self.folder.join("agent-token"))
    }

    /// What `kubectl` is told by whoever may do everything.
    pub(crate) fn admin_flags(&self) -> [String; 3] {
        let ca = self.folder.join("ca.crt");
        [
            format!("--server=https://{}", self.server),
            format!("--certificate-authority={}", ca.display()),
            format!("--token={ADMIN}"),
        ]
    }

    /// What `bz-agent run` is told of it.
    pub(crate) fn agent_flags(&self) -> String {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (ca, token) = (at("ca.crt"), at("agent-token"));
        format!("--kube-server https://{} --kube-ca {ca} --kube-token-file {token}", self.server)
    }

    async fn ready(&self, node: SocketAddr) {
        let deadline = Instant::now() + DEADLINE;
        let in_time = |program: &str| {
            let log = || std::fs::read_to_string(self.folder.join(format!("{program}.log")));
            assert!(Instant::now() < deadline, "{program} does not start: {:?}", log());
        };
        while self.call("GET", "/readyz", "").await.stdout != b"ok" {
            in_time("kube-apiserver");
        }
        while tokio::net::TcpStream::connect(node).await.is_err() {
            in_time("kubelet");
            tokio::task::yield_now().await;
        }
    }

    /// Calls it as its administrator, past everything of ours.
    async fn call(&self, method: &str, path: &str, body: &str) -> Output {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--insecure", "--noproxy", "*", "-X", method, "-H", &format!("Content-Type: {kind}")]);
        curl.args(["-H", &format!("Authorization: Bearer {ADMIN}")]);
        if !body.is_empty() {
            curl.args(["-d", body]);
        }
        curl.arg(format!("https://{}{path}", self.server)).output().await.unwrap()
    }

    async fn made(&self, method: &str, path: &str, body: serde_json::Value) {
        let said = String::from_utf8(self.call(method, path, &body.to_string()).await.stdout).unwrap();
        let failed = serde_json::from_str::<serde_json::Value>(&said).unwrap()["status"] == "Failure";
        assert!(!failed, "{method} {path}: {said}");
    }

    /// A namespace, rights, and pods, one of which runs on the node.
    async fn furnish(&self, node: SocketAddr) {
        use serde_json::json;
        let core = "/api/v1";
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        self.made("POST", &format!("{core}/namespaces"), json!({"metadata": {"name": "shop"}})).await;
        let role = |name: &str, rules: serde_json::Value| json!({"metadata": {"name": name}, "rules": rules});
        let impersonate = json!([{"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]}]);
        self.made("POST", &format!("{rbac}/clusterroles"), role("impersonator", impersonate)).await;
        let bind = |role: &str, kind: &str, name: &str| {
            let group = if kind == "ServiceAccount" { "" } else { "rbac.authorization.k8s.io" };
            let subject = json!({"kind": kind, "name": name, "apiGroup": group, "namespace": "bz"});
            json!({"metadata": {"name": format!("{role}-{name}")}, "subjects": [subject],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
        };
        self.made("POST", &format!("{rbac}/clusterrolebindings"), bind("impersonator", "ServiceAccount", "agent"))
            .await;
        let shop = json!([{"apiGroups": ["", "apps"], "verbs": ["*"],
            "resources": ["pods", "pods/exec", "pods/log", "pods/portforward", "configmaps"]}]);
        self.made("POST", &format!("{rbac}/clusterroles"), role("shopkeeper", shop)).await;
        let look = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]);
        self.made("POST", &format!("{rbac}/clusterroles"), role("looker", look)).await;
        self.made("POST", &format!("{rbac}/namespaces/shop/rolebindings"), bind("shopkeeper", "User", "deployer"))
            .await;
        self.made("POST", &format!("{rbac}/clusterrolebindings"), bind("looker", "Group", "lookers")).await;
        // A pod of a node that is gone has its place in the list all the same.
        for (name, node, pod) in [("here", node, "web-0"), ("gone", free(), "gone-0")] {
            self.made("POST", &format!("{core}/nodes"), json!({"metadata": {"name": name}})).await;
            let ip = node.ip().to_string();
            let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port()}}}});
            self.made("PATCH", &format!("{core}/nodes/{name}/status"), status).await;
            let container = json!({"name": "main", "image": "none"});
            let made = json!({"metadata": {"name": pod}, "spec": {"containers": [container], "nodeName": name}});
            self.made("POST", &format!("{core}/namespaces/shop/pods"), made).await;
            let running = json!({"status": {"phase": "Running"}});
            self.made("PATCH", &format!("{core}/namespaces/shop/pods/{pod}/status"), running).await;
        }
    }
}

/// An authority, and a certificate of it for loopback.
fn certificates(folder: &Path) {
    let script = "set -e
        openssl genrsa -out accounts.key 2048
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=cluster
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server
        printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' >extensions
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.crt";
    let made = Command::new("bash").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn etcd_flags(client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let flags = [
        ("data-dir", "etcd"),
        ("listen-client-urls", &client),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &format!("default={peer}")),
    ];
    flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

fn server_flags(etcd: SocketAddr, server: SocketAddr) -> Vec<String> {
    let flags = [
        ("etcd-servers", format!("http://{etcd}")),
        ("bind-address", server.ip().to_string()),
        ("secure-port", server.port().to_string()),
        ("insecure-port", "0".to_owned()),
        ("tls-cert-file", "server.crt".to_owned()),
        ("tls-private-key-file", "server.key".to_owned()),
        ("client-ca-file", "ca.crt".to_owned()),
        ("token-auth-file", "tokens.csv".to_owned()),
        ("authorization-mode", "RBAC".to_owned()),
        ("service-account-key-file", "accounts.key".to_owned()),
        ("service-account-signing-key-file", "accounts.key".to_owned()),
        ("service-account-issuer", format!("https://{server}")),
        ("service-cluster-ip-range", "10.9.0.0/24".to_owned()),
        // Nobody makes accounts' tokens here, and no scheduler clears taints.
        ("disable-admission-plugins", "ServiceAccount,TaintNodesByCondition".to_owned()),
    ];
    flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}
