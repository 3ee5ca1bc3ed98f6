//! The workflows under `examples/ci`, read as YAML, and their commands run as they stand there with the real program: what
//! a job has of its platform comes from the stand-ins, everything else is real.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use bz_examples::idp::jobs::REQUEST_TOKEN;
use bz_examples::needs;
use serde_json::{Value, json};
use tokio::process::Command;

use super::Stage;
use crate::guide;
use crate::logged::Logged;

const GITHUB: &str = include_str!("../../../ci/github-actions.yml");
const CIRCLECI: &str = include_str!("../../../ci/circleci.yml");
const CLOUD_RUN: &str = include_str!("../../../ci/cloud-run.yaml");

/// F-226: the workflow asks for nothing but its token, and its steps deploy; the same steps for a proposed change do not
/// log in.
#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_of_github_actions_works() {
    let _logged = Logged::here();
    let Some(workflow) = yaml(GITHUB) else { return };
    assert_eq!(workflow["permissions"], json!({}));
    let job = &workflow["jobs"]["deploy"];
    assert_eq!(job["permissions"], json!({"contents": "read", "id-token": "write"}));
    let steps = texts(&job["steps"], |step| step.get("run"));
    let Some(runner) = Runner::start(&job["env"]).await else { return };
    let token = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", runner.stage.jobs.github_request_url()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN.to_owned()),
    ];
    runner.deploys(&steps, &token).await;
    runner.stage.jobs.change(json!({"event_name": "pull_request", "environment": null}));
    let (ended, said) = runner.run(&steps[0], &token).await;
    assert!(!ended && said.contains("of a job that the trust bundle does not mean"), "{said}");
    let (ended, said) = runner.run(&steps[0], &[]).await;
    assert!(!ended && said.contains("id-token: write"), "{said}");
    runner.stop().await;
}

/// F-225: the jobs of CircleCI's configuration work, by the program that CircleCI puts there.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_circleci_works() {
    let _logged = Logged::here();
    let Some(config) = yaml(CIRCLECI) else { return };
    if !needs::program("curl") {
        return;
    }
    let job = &config["jobs"]["deploy"];
    let steps = texts(&job["steps"], |step| step.get("run")?.get("command"));
    let Some(runner) = Runner::start(&job["environment"]).await else { return };
    // As its documentation has it: `circleci run oidc get --claims '{"aud": …}'` prints a token.
    let program = format!(
        "#!/bin/sh\n[ \"$1 $2 $3 $4\" = 'run oidc get --claims' ] || exit 2\n\
         exec curl -sf --noproxy '*' -H 'content-type: application/json' --data \"$5\" {}\n",
        runner.stage.jobs.circleci_token_url()
    );
    let there = runner.folder.path().join("circleci");
    std::fs::write(&there, program).unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o755)).unwrap();
    runner.deploys(&steps, &[]).await;
    runner.stage.jobs.change(json!({"oidc.circleci.com/ssh-rerun": true}));
    let (ended, said) = runner.run(&steps[0], &[]).await;
    assert!(!ended && said.contains("of a job that the trust bundle does not mean"), "{said}");
    runner.stop().await;
}

/// F-228: the container of the job of Cloud Run works, by the metadata server.
#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_cloud_run_works() {
    let _logged = Logged::here();
    let Some(manifest) = yaml(CLOUD_RUN) else { return };
    let container = &manifest["spec"]["template"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["/bin/sh", "-euc"]));
    let pair = |pair: &Value| (pair["name"].as_str().unwrap().to_owned(), pair["value"].clone());
    let env = container["env"].as_array().unwrap().iter().map(pair).collect();
    let Some(runner) = Runner::start(&Value::Object(env)).await else { return };
    let metadata = [("GCE_METADATA_HOST", runner.stage.jobs.google_metadata_host())];
    runner.deploys(&texts(&container["args"], Some), &metadata).await;
    runner.stop().await;
}

/// A machine of the platform, with `bz` on it, in a system whose jobs are pinned.
struct Runner {
    stage: Stage,
    agent: bz_agent::agent::Running,
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Runner {
    /// With the variables that the workflow sets, which must be those that the reader writes anew.
    async fn start(variables: &Value) -> Option<Self> {
        let names: Vec<&String> = variables.as_object().unwrap().keys().collect();
        assert_eq!(names, ["BZ_SERVER", "WEB_KEY"]);
        let stage = Stage::start().await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("trust.toml"), stage.world.bundle.to_text().unwrap()).unwrap();
        let agent = stage.agent("web", stage.world.bundle.clone()).await;
        let web = stage.world.client.find_target(&"web".parse().unwrap()).await.unwrap();
        let own = folder.path().display();
        let said = |name: &str| std::env::var(name).unwrap_or_default();
        let environment = [
            ("BZ_SERVER", stage.world.client.server().url().to_string()),
            ("WEB_KEY", web.agent_public_key.fingerprint().to_string()),
            // The server's authority is a private one.
            ("SSL_CERT_FILE", stage.world.folder.join("server/ca.crt").display().to_string()),
            ("HOME", own.to_string()),
            ("PATH", format!("{own}:{}:{}", guide::built().display(), said("PATH"))),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        Some(Self { stage, agent, folder, environment })
    }

    /// All steps, one of which deploys.
    async fn deploys(&self, steps: &[String], more: &[(&str, String)]) {
        let mut all = String::new();
        for step in steps {
            let (fine, said) = self.run(step, more).await;
            assert!(fine, "{step}: {said}");
            all += &said;
        }
        assert!(all.contains(&format!("deployed by {}", self.stage.user)), "{all}");
        assert!(!all.contains("eyJ") && !all.contains(REQUEST_TOKEN), "a token is shown: {all}");
    }

    /// A step as its platform runs it; the user on the host is the one of this process.
    async fn run(&self, step: &str, more: &[(&str, String)]) -> (bool, String) {
        let mut command = Command::new("sh");
        let line = step.replace("deploy@web", &format!("{}@web", self.stage.user));
        command.args(["-euc", &line]).env_clear().envs(&self.environment).stdin(Stdio::null());
        command.envs(more.iter().map(|(name, value)| (*name, value))).current_dir(self.folder.path());
        let output = command.output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    async fn stop(self) {
        self.agent.stop().await;
        self.stage.world.stop().await;
    }
}

/// The texts of a list's elements that have one.
fn texts<'a>(list: &'a Value, of: impl Fn(&'a Value) -> Option<&'a Value>) -> Vec<String> {
    list.as_array().unwrap().iter().filter_map(of).map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The file as JSON, read by the parser that comes with schemathesis; and nothing secret in it.
fn yaml(text: &str) -> Option<Value> {
    for secret in ["secrets.", "PRIVATE KEY", "assword", "mfa_secret", "secretKeyRef"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    Some(parsed(&needs::SCHEMATHESIS.here()?.with_file_name("python3"), text))
}

fn parsed(python: &Path, text: &str) -> Value {
    let program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let mut parser = std::process::Command::new(python);
    parser.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut parser = parser.spawn().unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "no YAML: {text}");
    serde_json::from_slice(&output.stdout).unwrap()
}
