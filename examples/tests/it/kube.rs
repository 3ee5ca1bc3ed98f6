//! Clusters behind a target: a real API server, and kubectl as people have it.

pub(crate) mod cluster;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bz_agent::agent::{Agent, Running};
use bz_agent::helper::Helper;
use bz_agent::jwks::IssuerKeys;
use bz_agent::user::User;
use bz_client::client::EventFilter;
use bz_client::kube::{Credential, Kube, Role};
use bz_core::api::policy::{ClusterName, KubernetesContent, PolicyCluster, Subject, SubjectType};
use bz_core::api::record::KubeEvent;
use bz_core::api::target::TargetKind;
use bz_core::api::virtual_target::NewVirtualTarget;
use bz_core::id::PolicyId;
use bz_examples::world::{Way, World};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::session::until;
use cluster::Cluster;

/// F-095, F-097, F-098, F-099, F-161, F-162, F-163~, F-164, F-178~, F-216, F-232~: kubectl's commands, over both carriers,
/// as the user and groups of the grant and nobody else; and the log of them, with what is typed in a container.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_as_whom_the_grant_names() {
    for way in [Way::Ws, Way::Quic] {
        let Some(room) = Room::new(way).await else { return };
        let desk = room.open(Role::default()).await;
        assert_eq!(
            (desk.kube.role.user.as_str(), desk.kube.role.groups.as_slice()),
            ("deployer", &["lookers".to_owned()][..])
        );
        assert_eq!(desk.run("auth can-i create pods -n shop").await, "yes\n");
        assert_eq!(desk.fails("auth can-i create pods -n default").await.0, "no\n");
        assert!(desk.run("get nodes").await.contains("here "), "the group counts");
        let denied = desk.fails("get secrets -n shop").await.1;
        assert!(denied.contains("User \"deployer\" cannot list resource \"secrets\""), "{denied}");
        // What kubectl itself says of who it is goes no further.
        let stolen = desk.fails("get secrets -n shop --as system:admin --as-group system:masters").await.1;
        assert!(stolen.contains("User \"deployer\" cannot list resource \"secrets\""), "{stolen}");

        desk.everything().await;
        room.everything_is_logged().await;
        drop(desk);

        let none = room.open(Role { groups: Some(vec![]), ..Role::default() }).await;
        let denied = none.fails("get nodes").await.1;
        assert!(denied.contains("cannot list resource \"nodes\""), "without the group: {denied}");
        let refused =
            room.world.client.kube(&"prod".parse().unwrap(), Role { user: Some("admin".into()), groups: None }).await;
        assert!(refused.is_err(), "{refused:?}");
        room.world.stop().await;
    }
}

/// Whoever else finds the port has no token for it; and what is open ends with its policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_s_port_is_for_whoever_opened_it() {
    let Some(room) = Room::new(Way::Ws).await else { return };
    let desk = room.open(Role::default()).await;
    let stranger = async |header: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--insecure", "--noproxy", "*", "-w", " %{http_code}", "-H", header]);
        let said = curl.arg(format!("https://localhost:{}/api", desk.port)).output().await.unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    for header in ["x: y", "Authorization: Bearer guessed", "Authorization: Basic eDp5"] {
        assert_eq!(stranger(header).await, "This port is for whoever opened it.\n 401", "{header}");
    }
    let (nothing, said) = desk.fails("logs -n shop gone-0 -f").await;
    assert!(nothing.is_empty() && said.contains("connection refused"), "of a pod whose node is gone: {said}");
    let mut logs = desk.start("logs -n shop web-0 -f");
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    for want in ["first line", "second line"] {
        assert_eq!(within(lines.next_line()).await.unwrap().as_deref(), Some(want));
    }
    crate::api::call(&room.world, "DELETE", &format!("policies/kubernetes/{}", room.policy), None).await;
    within(desk.kube.tunnel().ended()).await;
    let reason = desk.kube.tunnel().reason().unwrap_or_default();
    assert!(reason.contains("no policy allows it any more"), "{reason}");
    let status = within(logs.wait()).await.unwrap();
    assert!(!status.success(), "kubectl takes a cut log for a whole one");
    room.world.stop().await;
}

impl Desk {
    /// What people do with a pod, over the protocols that kubectl has for it.
    async fn everything(&self) {
        let manifest = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sign"}, "data": {"a": "b"}}"#;
        std::fs::write(self.folder.join("sign.json"), manifest).unwrap();
        let mut watch = self.start("get configmap -n shop --watch --no-headers");
        let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
        self.run("apply -n shop -f sign.json").await;
        loop {
            // The cluster has one of its own there.
            let line = within(seen.next_line()).await.unwrap().expect("the watch goes on");
            if line.starts_with("sign ") {
                break;
            }
        }
        watch.kill().await.unwrap();
        assert_eq!(self.run("get configmap sign -n shop -o jsonpath={.data.a}").await, "b");
        self.run("delete configmap sign -n shop").await;
        assert_eq!(self.run("logs web-0 -n shop").await, "first line\nsecond line\n");

        for websockets in ["true", "false"] {
            let pod = |line: &str| format!("KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websockets} kubectl {line}");
            let run = async |line: &str| self.shell(&pod(line)).await;
            assert_eq!(self.good(&pod("exec web-0 -n shop -- echo 'a b'")).await, "a b\n");
            assert_eq!(run("exec web-0 -n shop -- sh -c 'exit 7'").await.status.code(), Some(7));
            let both = run("exec web-0 -n shop -- sh -c 'echo out; echo err >&2'").await;
            assert_eq!((both.stdout, both.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
            let piped = self.good(&format!("printf 'in\\nout' | {}", pod("exec -i web-0 -n shop -- cat"))).await;
            assert_eq!(piped, "in\nout");
            let (there, back) = (self.folder.join(format!("there-{websockets}")), format!("back-{websockets}"));
            std::fs::write(self.folder.join("here"), vec![7; 1 << 20]).unwrap();
            self.good(&pod(&format!("cp here shop/web-0:{}", there.display()))).await;
            self.good(&pod(&format!("cp shop/web-0:{} {back}", there.display()))).await;
            assert!(std::fs::read(self.folder.join(back)).unwrap() == vec![7; 1 << 20], "a copy is another");
        }
        self.terminal().await;
        self.forwarded().await;
    }

    /// `exec -it` in a window that changes its size.
    async fn terminal(&self) {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(31, 97)).unwrap();
        let command = pty_process::Command::new("kubectl")
            .args(["exec", "-it", "web-0", "-n", "shop", "--", "sh"])
            .envs(self.environment())
            .current_dir(&self.folder)
            .kill_on_drop(true);
        let mut child = command.spawn(pts).unwrap();
        let (output, mut input) = pty.into_split();
        let mut lines = BufReader::new(output).lines();
        input.write_all(b"stty size; echo ready-$((40+2))\n").await.unwrap();
        let mut said = String::new();
        while !said.contains("ready-42") {
            said.push_str(&within(lines.next_line()).await.unwrap().expect("the shell goes on"));
            said.push('\n');
        }
        assert!(said.contains("31 97"), "{said}");
        input.resize(pty_process::Size::new(41, 123)).unwrap();
        // The size goes its own way: asked for until it has come.
        input
            .write_all(b"until [ \"$(stty size)\" = '41 123' ]; do :; done; echo resized-$((40+3)); exit 3\n")
            .await
            .unwrap();
        while !said.contains("resized-43") {
            said.push_str(&within(lines.next_line()).await.unwrap().expect("the shell goes on"));
        }
        assert_eq!(within(child.wait()).await.unwrap().code(), Some(3), "{said}");
    }

    async fn forwarded(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.map(drop).unwrap_or_default();
            }
        });
        let mut forward = self.start(&format!("port-forward -n shop web-0 :{behind}"));
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let line = within(lines.next_line()).await.unwrap().expect("kubectl forwards");
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
        stream.write_all(b"there and back\n").await.unwrap();
        let mut back = String::new();
        within(BufReader::new(&mut stream).read_line(&mut back)).await.unwrap();
        assert_eq!(back, "there and back\n");
        forward.kill().await.unwrap();
    }
}

struct Room {
    world: World,
    policy: PolicyId,
    folder: tempfile::TempDir,
    _cluster: Cluster,
    _agent: Running,
}

/// A person's desk with kubectl, and a cluster on a port.
struct Desk {
    kube: Kube,
    port: u16,
    folder: PathBuf,
    kubeconfig: PathBuf,
    _serving: JoinSet<()>,
}

impl Room {
    async fn new(way: Way) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(folder.path()).await?;
        let user = User::current().unwrap().name;
        let helper = Helper::at(env!("CARGO_BIN_EXE_helper"));
        let home = folder.path().join("world");
        std::fs::create_dir(&home).unwrap();
        let world = World::start(&home, helper, &user, way).await.unwrap();
        let identity = world.enroll("in-cluster").await.unwrap();
        let proxy_target_id = Some(identity.target);
        let keys = IssuerKeys::ThroughLink(Arc::clone(&world.tls));
        let agent =
            Agent::new(identity, world.bundle.clone(), world.carrier.clone(), keys).cluster(cluster.for_agent());
        let agent = agent.start().unwrap();
        agent.online().await;
        let new = NewVirtualTarget { target_name: "prod".to_owned(), proxy_target_id, ..NewVirtualTarget::default() };
        let made = world.client.create_virtual_target(TargetKind::Cluster, &new).await.unwrap();
        let content = KubernetesContent {
            name: "to the shop".to_owned(),
            subjects: vec![Subject { id: world.client.me().await.unwrap().id, kind: SubjectType::User }],
            clusters: vec![PolicyCluster { id: made.target_id }],
            cluster_users: vec![ClusterName { name: "deployer".to_owned() }],
            cluster_groups: vec![ClusterName { name: "lookers".to_owned() }],
            ..KubernetesContent::default()
        };
        let policy = world.client.create_kubernetes_policy(&content).await.unwrap().id;
        Some(Self { world, policy, folder, _cluster: cluster, _agent: agent })
    }

    async fn open(&self, role: Role) -> Desk {
        let kube = self.world.client.kube(&"prod".parse().unwrap(), role).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let credential = Credential::new().unwrap();
        let folder = self.folder.path().join(format!("desk-{port}"));
        std::fs::create_dir(&folder).unwrap();
        let token = folder.join("credential.json");
        std::fs::write(&token, Credential::shown(credential.token()).to_string()).unwrap();
        let program = ["cat".to_owned(), token.display().to_string()];
        let config = credential.kubeconfig("prod", port, &program).to_string();
        assert!(!config.contains(credential.token()), "a secret stands in {config}");
        let kubeconfig = folder.join("config");
        std::fs::write(&kubeconfig, config).unwrap();
        let mut serving = JoinSet::new();
        let heard = Arc::new(Mutex::new(()));
        let watcher: bz_client::web::Watcher = Arc::new(move |_| drop(heard.lock()));
        serving.spawn(kube.serve(listener, (&credential, Some("kubectl by a test")), watcher).unwrap());
        Desk { kube, port, folder, kubeconfig, _serving: serving }
    }

    /// Each with as whom, what, where, and what the cluster said.
    async fn everything_is_logged(&self) {
        let filter = &EventFilter { count: 1000, ..EventFilter::default() };
        let look = async || self.world.client.kube_events_where(filter).await.unwrap();
        let has = |log: &Vec<KubeEvent>, verb: &str, resource: &str, status: u16| {
            let is = |row: &&KubeEvent| {
                (row.action.verb.as_str(), row.action.resource.as_str()) == (verb, resource)
                    && row.request.status == Some(status)
            };
            log.iter().find(is).cloned()
        };
        let wanted = [
            ("create", "selfsubjectaccessreviews", 201),
            ("list", "nodes", 200),
            ("list", "secrets", 403),
            ("watch", "configmaps", 200),
            ("delete", "configmaps", 200),
            ("get", "pods/log", 200),
            ("create", "pods/exec", 101),
            ("create", "pods/portforward", 101),
        ];
        let all = |log: &Vec<KubeEvent>| {
            wanted.iter().all(|(verb, resource, status)| has(log, verb, resource, *status).is_some())
        };
        let log = until(look, all).await;
        let place = &log[0].request.place;
        assert_eq!((place.target_name.as_str(), place.target_user.as_str()), ("prod", "deployer"));
        assert_eq!(
            (place.target_groups.as_slice(), log[0].kubectl.as_deref()),
            (&["lookers".to_owned()][..], Some("kubectl by a test"))
        );
        let commands: Vec<_> = log.iter().filter_map(|row| row.action.command.as_deref()).collect();
        assert!(commands.contains(&"sh -c 'exit 7'") && commands.contains(&"echo 'a b'"), "{commands:?}");
        let typed = async || {
            let log = self.world.client.command_events_where(filter).await.unwrap();
            log.into_iter().map(|row| row.command).collect::<Vec<_>>()
        };
        until(typed, |log: &Vec<String>| log.iter().any(|line| line == "stty size; echo ready-$((40+2))")).await;
        let exec = has(&log, "create", "pods/exec", 101).unwrap();
        assert_eq!((exec.action.namespace.as_deref(), exec.action.name.as_deref()), (Some("shop"), Some("web-0")));
    }
}

impl Desk {
    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        // What kubectl finds out of the API is kept there.
        vec![("KUBECONFIG", self.kubeconfig.clone()), ("HOME", self.folder.clone())]
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(&self.folder).envs(self.environment()).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    async fn shell(&self, line: &str) -> std::process::Output {
        within(self.command(line).output()).await.unwrap()
    }

    /// A line that must work; what it prints.
    async fn good(&self, line: &str) -> String {
        let output = self.shell(line).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn run(&self, line: &str) -> String {
        self.good(&format!("kubectl {line}")).await
    }

    async fn fails(&self, line: &str) -> (String, String) {
        let output = self.shell(&format!("kubectl {line}")).await;
        assert!(!output.status.success(), "{line} works");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn start(&self, line: &str) -> tokio::process::Child {
        self.command(&format!("exec kubectl {line}")).stdout(Stdio::piped()).spawn().unwrap()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it takes too long")
}
