//! Scripts of every kind, read by the programs they are for: what was put in comes out as it was, whatever it looks like.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bz_core::api::autodiscovery::Artifact;
use bz_core::script::{IMAGE, Kind, NO_KEY, Naming, Pins, Script};
use bz_examples::needs;
use serde_json::{Value, json};

use super::desk::text;
use super::host::done;
use crate::kube::cluster::Cluster;

/// What some language might take for more than a value. Each is an environment's name, and a line of a trust bundle.
const HOSTILE: &[&str] = &[
    "it's",
    "'; touch pwned; '",
    "$(touch pwned)`touch pwned`${HOME}\\",
    "\"; touch pwned #",
    "{{ lookup('pipe', 'touch pwned') }} {% raw %}",
    "\u{2019}; Remove-Item x; \u{2018}",
    "- key: value",
    "@@TOKEN@@ @@",
    "%n%s !unsafe &anchor *alias $$ $TOKEN",
    "ls\u{2028}bom\u{feff}\u{1f600}",
    "END",
];

/// Bash reads each value back as it was, and runs none of them.
#[test]
fn bash_takes_values_for_values() {
    let folder = tempfile::tempdir().unwrap();
    for hostile in HOSTILE {
        let script = script(hostile);
        let text_of = script.render(Kind::Bash).unwrap();
        let names = ["server", "environment", "token", "bundle", "server_ca", "issuer_ca"];
        let print = names.map(|name| format!("\"${name}\"")).join(" ");
        assert_eq!(text_of.matches("\nmain \"$@\"\n").count(), 1);
        let printed = text_of.replace("\nmain \"$@\"\n", &format!("\nprintf '%s\\0' {print}\n"));
        let path = folder.path().join("script");
        std::fs::write(&path, printed).unwrap();
        let output = Command::new("bash").arg(&path).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{hostile:?}: {}", text(&output.stderr));
        let pins = script.pins.unwrap();
        let want = [
            script.server,
            script.environment.unwrap(),
            script.key.unwrap(),
            pins.bundle,
            pins.server_ca.unwrap(),
            pins.issuer_ca.unwrap(),
        ];
        let read: Vec<_> = output.stdout.split(|byte| *byte == 0).map(text).collect();
        assert_eq!(read[..want.len()], want, "{hostile:?}");
        assert!(!folder.path().join("pwned").exists(), "{hostile:?} ran");
    }
}

/// Playbooks, and files of Compose and Kubernetes, as another reader of YAML takes them; Ansible itself finds the playbook
/// right, and evaluates no value.
#[test]
fn yaml_is_read_as_it_was_written() {
    let Some(programs) = ansible() else { return };
    let folder = tempfile::tempdir().unwrap();
    let read = |script: &Script, kind: Kind| -> Value {
        let path = folder.path().join("file.yml");
        std::fs::write(&path, script.render(kind).unwrap()).unwrap();
        let said = done(Command::new(programs.join("python")).args(["-c", READ]).arg(&path));
        serde_json::from_str(&said).unwrap()
    };
    for hostile in HOSTILE {
        let script = script(hostile);
        let pins = script.pins.clone().unwrap();
        let play = read(&script, Kind::Ansible);
        let vars = &play[0][0]["vars"];
        assert_eq!(vars["bz_environment"], script.environment.as_deref().unwrap());
        assert_eq!(vars["bz_bundle"], pins.bundle.as_str());
        assert_eq!(vars["bz_token"], script.key.as_deref().unwrap());
        let artifact = &vars["bz_artifacts"]["Linux x86_64"];
        assert_eq!(artifact, &json!({"name": "bz-agent-linux-x86_64", "sha256": "0a".repeat(32)}));

        let bash = script.render(Kind::Bash).unwrap();
        let compose = read(&script, Kind::Container);
        let content = compose[0]["configs"]["setup"]["content"].as_str().unwrap();
        assert!(!content.replace("$$", "").contains('$'), "{hostile:?}: Compose would look for a variable");
        assert_eq!(content.replace("$$", "$"), bash, "{hostile:?}");

        let kube = read(&script, Kind::Kube);
        let of = |kind: &str| kube.as_array().unwrap().iter().find(|object| object["kind"] == kind).unwrap();
        assert_eq!(of("Secret")["stringData"]["key"], script.key.as_deref().unwrap());
        let bare = Script { key: None, ..script }.render(Kind::Bash).unwrap();
        assert!(bare.contains(NO_KEY));
        assert_eq!(of("ConfigMap")["data"]["setup.bash"], bare, "{hostile:?}");
        let pod = &of("Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    }
    ansible_finds_it_right(&programs, folder.path());
}

/// Ansible reads the playbook, and shows a value as it is.
fn ansible_finds_it_right(programs: &Path, folder: &Path) {
    for hostile in HOSTILE {
        let playbook = script(hostile).render(Kind::Ansible).unwrap();
        let path = folder.join("playbook.yml");
        std::fs::write(&path, &playbook).unwrap();
        let run = |more: &[&str]| -> Output {
            let mut ansible = Command::new(programs.join("ansible-playbook"));
            ansible.args(["--inventory", "localhost,", "--connection", "local"]).args(more).arg(&path);
            let python = programs.join("python");
            ansible.arg(format!("--extra-vars=ansible_python_interpreter={}", python.display()));
            ansible.env("HOME", folder).env("LC_ALL", "C.UTF-8").current_dir(folder).output().unwrap()
        };
        let checked = run(&["--syntax-check"]);
        assert!(checked.status.success(), "{hostile:?}: {}{}", text(&checked.stdout), text(&checked.stderr));
        // The same variables, and one task that writes one of them down.
        let (head, _) = playbook.split_once("  tasks:\n").unwrap();
        let task = "  tasks:\n    - ansible.builtin.copy: {dest: ./shown, content: \"{{ bz_environment }}\"}\n";
        let head = head.replace("become: true", "become: false").replace("gather_facts: true", "gather_facts: false");
        std::fs::write(&path, head + task).unwrap();
        let shown = run(&[]);
        assert!(shown.status.success(), "{hostile:?}: {}{}", text(&shown.stdout), text(&shown.stderr));
        assert_eq!(std::fs::read_to_string(folder.join("shown")).unwrap(), *hostile);
        assert!(!folder.join("pwned").exists(), "{hostile:?} ran");
    }
}

/// A real API server takes every object, and knows every field of them.
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_takes_the_objects() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::start(folder.path()).await else { return };
    let path = folder.path().join("agent.yml");
    std::fs::write(&path, script("it's").render(Kind::Kube).unwrap()).unwrap();
    let mut kubectl = Command::new("kubectl");
    kubectl.args(cluster.admin_flags()).args(["apply", "--validate=true", "--filename"]).arg(&path);
    let said = done(kubectl.env("HOME", folder.path()));
    for object in [
        "namespace/bz-agent",
        "serviceaccount/bz-agent",
        "clusterrole.rbac.authorization.k8s.io/bz-agent-impersonates",
        "secret/bz-agent-registration",
        "configmap/bz-agent-setup",
        "persistentvolumeclaim/bz-agent-state",
        "deployment.apps/bz-agent",
    ] {
        assert!(said.contains(&format!("{object} created")), "{object} is missing in {said}");
    }
}

/// Where there is PowerShell, it finds the script right. It is in no Debian, so that this may be left out anywhere.
#[test]
fn powershell_finds_its_script_right() {
    let Some(pwsh) = needs::find("pwsh") else {
        eprintln!("left out: pwsh is absent, so nobody has parsed the script for Windows");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for hostile in HOSTILE {
        let path = folder.path().join("script.ps1");
        std::fs::write(&path, script(hostile).render(Kind::PowerShell).unwrap()).unwrap();
        let parse = "$e = $null; [void][System.Management.Automation.Language.Parser]::ParseFile($args[0], [ref]$null, \
                     [ref]$e); $e; exit $e.Count";
        done(Command::new(&pwsh).args(["-NoProfile", "-Command", &format!("& {{ {parse} }} '{}'", path.display())]));
    }
}

/// Each document of a file of YAML, as JSON.
const READ: &str = "
import json, sys, yaml
class Loader(yaml.SafeLoader): pass
Loader.add_constructor('!unsafe', lambda loader, node: loader.construct_scalar(node))
print(json.dumps(list(yaml.load_all(open(sys.argv[1], encoding='utf-8'), Loader))))
";

/// The folder of Ansible's programs.
fn ansible() -> Option<PathBuf> {
    Some(needs::ANSIBLE.here()?.parent()?.to_owned())
}

fn script(hostile: &str) -> Script {
    let artifact = |name: &str| Artifact { name: name.to_owned(), sha256: "0a".repeat(32), size: 1 };
    Script {
        server: "https://bz.example.com:8443".to_owned(),
        pins: Some(Pins {
            bundle: format!("organization = \"x\"\n# {hostile}\n\n{hostile}\n"),
            server_ca: Some(format!("-----BEGIN CERTIFICATE-----\n{hostile}\n")),
            issuer_ca: Some(hostile.to_owned()),
        }),
        key: Some("bzEnrollKey'$(touch$IFS)\"{{7*7}}".to_owned()),
        environment: Some(hostile.to_owned()),
        naming: Naming::Host,
        artifacts: vec![artifact("bz-agent-linux-x86_64"), artifact("bz-agent-windows-x86_64.exe")],
        image: IMAGE.to_owned(),
    }
}
