//! `docs/connecting.md`, its section on SSH, followed command by command.

use bz_examples::needs;
use tokio::net::TcpStream;

use crate::guide::page::Page;
use crate::ssh::site::{DEADLINE, Site};

const PAGE: &str = include_str!("../../../../docs/connecting.md");

/// F-247: no key is handed out or stored, and everything is as ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_ssh_leads_to_everything_that_it_names() {
    if !["rsync", "git"].map(needs::program).into_iter().all(|here| here) {
        return;
    }
    let Some(site) = Site::start().await else { return };
    let section = PAGE.split_once("## SSH with your own tools").expect("the section").1;
    let mut page = Page::of(section.split("\n## ").next().unwrap());
    // As the host is before its administrator reads the page.
    let settings = site.at("sshd_config.d/bz-agent.conf");
    std::fs::remove_file(&settings).unwrap();
    let reload = format!("sshd -t -f sshd_config && kill -HUP {}", site.sshd_pid());
    site.reload(&reload).await;
    page.put("/etc/ssh/sshd_config.d/bz-agent.conf", &settings.display());
    page.put("sshd -t && systemctl reload ssh", &reload);
    page.put("YOU", &site.person.name);
    page.put("alice", &site.person.name);
    page.put("FINGERPRINT", &site.agent_key);
    // The reader's configuration is in the reader's home, which this test puts elsewhere.
    site.own_configuration();
    let trust = page.next("bz-agent ssh-ca");
    let reload = page.next("sshd -t");
    let policy = page.next("bz policy create");
    site.run(&policy).await;
    site.run(&page.next("bz target trust")).await;
    site.run(&page.next("bz generate ssh-config --include")).await;
    let uptime = page.next("ssh ");
    let refused = site.fails(&uptime).await;
    assert!(refused.contains("Permission denied (publickey)"), "sshd trusts nobody yet: {refused}");
    site.run(&trust).await;
    site.reload(&reload).await;
    assert!(site.run(&uptime).await.contains("load average"));

    site.run(
        "echo 42 > report.txt && mkdir site && echo page > site/index && git init -q project && \
              git -C project -c user.name=a -c user.email=a@b commit -q --allow-empty -m first",
    )
    .await;
    site.run(&page.next("scp ")).await;
    site.run(&page.next("sftp ")).await;
    assert_eq!(site.run("cat copy.txt").await, "42\n");
    site.run(&page.next("rsync ")).await;
    let clone = page.next("git clone");
    site.run("ssh $U@web git init -q --bare project.git && git -C project push -q $U@web:project.git HEAD").await;
    site.run(&format!("rm -r project && {clone} && git -C project log --oneline | grep first")).await;
    // What goes on behind keeps the terminal that it was started from.
    site.run(&format!("{} >tunnel.log 2>&1", page.next("ssh "))).await;
    let connected = tokio::time::timeout(DEADLINE, TcpStream::connect("127.0.0.1:15432")).await;
    connected.unwrap().expect("ssh listens");
    site.run(&page.next("ssh ")).await;
    page.ends();
    site.stop().await;
}

/// F-178~, F-214~: the section on hosts without an sshd, as written.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_ssh_without_an_sshd_is_as_written() {
    if !needs::program("rsync") {
        return;
    }
    let Some(site) = Site::start().await else { return };
    let mut page = Page::connecting("SSH without an sshd");
    page.put("YOU", &site.person.name);
    page.put("alice", &site.person.name);
    page.put("FINGERPRINT", &site.agent_key);
    site.own_configuration();
    site.run(&page.next("bz policy create")).await;
    site.run(&page.next("bz target trust")).await;
    site.run(&page.next("bz generate ssh-config --include")).await;
    assert!(site.run(&page.next("ssh ")).await.contains("load average"));
    site.run("echo 42 > report.txt && mkdir site && echo page > site/index").await;
    site.run(&page.next("echo hello")).await;
    assert_eq!(site.run("ssh $U@web cat hello.txt").await, "hello\n");
    site.run(&page.next("scp ")).await;
    site.run(&page.next("scp -O ")).await;
    site.run(&page.next("sftp ")).await;
    assert_eq!(site.run("cat copy.txt old.txt").await, "42\n42\n");
    site.run(&page.next("rsync ")).await;
    assert_eq!(site.run("ssh $U@web cat site/index").await, "page\n");
    assert_eq!(site.let_in(), Vec::<String>::new(), "the host's own sshd has no part in it");
    let log = site.run(&page.next("bz logs commands")).await;
    assert!(log.contains("cat > hello.txt") && log.contains("rsync --server"), "{log}");
    let log = site.run(&page.next("bz logs files")).await;
    assert_eq!(log.matches("/report.txt").count(), 3, "{log}");
    page.ends();
    // Of those who may tunnel, too.
    site.allow("tunnel", &site.person.name).await;
    site.run("bz generate ssh-config --inspected && ssh $U@web true").await;
    assert_eq!(site.let_in(), Vec::<String>::new(), "asked for, and taken");
    site.run("bz generate ssh-config && ssh $U@web true").await;
    assert_eq!(site.let_in().len(), 1, "the host's own sshd again");
    site.stop().await;
}
