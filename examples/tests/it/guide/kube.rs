//! `docs/connecting.md`, section "Kubernetes".

use std::path::Path;

use super::page::Page;
use super::{PERSON, Place};
use crate::kube::cluster::Cluster;

/// F-163, F-216~, F-178~, F-232~: the section as written, with a real API server beside the target.
#[tokio::test(flavor = "multi_thread")]
async fn the_section_on_kubernetes_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    std::fs::create_dir(place.desk.at("peers")).unwrap();
    let Some(cluster) = Cluster::start(&place.desk.at("peers")).await else { return };
    place.agent.kill().await;
    place.agent = place.desk.start(&format!("{} {}", place.run_agent, cluster.agent_flags()));
    place.agent.says("linked to the server").await;
    let mut page = Page::connecting("Kubernetes");
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    place.desk.run(&page.next("bz target create kube")).await;
    place.desk.run(&page.next("bz policy create kubernetes")).await;
    let mut window = place.desk.terminal(&page.next("bz connect prod"));
    let said = window.shows("kubectl get pods").await;
    assert!(said.contains("is cluster prod as deployer in lookers"), "{said}");
    let file = said.split("KUBECONFIG=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let config = std::fs::read_to_string(&file).unwrap();
    let token = std::fs::read_to_string(Path::new(&file).with_extension("token")).unwrap();
    assert!(!config.contains(token.trim()), "a secret stands in {config}");
    page.put("FILE", &file);
    let export = page.next("export KUBECONFIG");
    let pods = place.desk.run(&format!("{export}; {}", page.next("kubectl get pods"))).await;
    assert!(pods.contains("web-0"), "{pods}");
    let id = place.desk.run(&format!("{export}; {}", page.next("kubectl exec"))).await;
    assert!(id.contains("uid="), "{id}");
    window.types("\x03").await;
    assert_eq!(window.ends().await, Some(0));
    assert!(!Path::new(&file).exists(), "nothing of it is left");
    let gone = place.desk.try_run(&format!("kubectl --kubeconfig {file} get pods")).await;
    assert!(!gone.status.success());

    let pods = place.desk.run(&page.next("bz kube prod")).await;
    assert!(pods.contains("web-0"), "{pods}");
    let denied = place.desk.try_run("bz kube prod -- get secrets -n shop").await;
    assert_eq!(denied.status.code(), Some(1), "kubectl's own status: {denied:?}");
    let both = |said: &str| said.contains("kubectl get pods -n shop") && said.contains("pods/exec");
    let log = place.desk.run_until(&page.next("bz logs kube"), both).await;
    assert!(log.contains("deployer") && log.contains("lookers") && log.contains("secrets"), "{log}");
    page.ends();
}
