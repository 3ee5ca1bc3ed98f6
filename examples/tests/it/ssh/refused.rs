//! Who is not let in: by policy, by the host, by sshd, and which hosts people are kept from.

use std::time::Duration;

use bz_client::ssh::Credential;
use bz_client::ssh::agent::OneLogin;
use bz_client::ssh::door::Names;
use bz_core::ssh::{SshKey, UserCertificate};
use bz_core::target::TargetUser;
use bz_core::time::UnixTime;
use bz_examples::needs;
use bz_protocol::driver::{Clock as _, SystemClock};

use crate::person::Person;
use crate::ssh::site::{HOST, Site, text};

/// F-015~, F-019: nobody may tunnel unless a policy names the verb; then `ssh` knows the host, until the policy is gone.
#[tokio::test(flavor = "multi_thread")]
async fn ssh_is_off_until_a_policy_says_otherwise() {
    let Some(site) = Site::start().await else { return };
    let client = &site.world.client;
    let api = site.api();
    let delete = async |name: &str| {
        let policy = client.policies().await.unwrap().into_iter().find(|policy| policy.content.name == name).unwrap();
        api.delete(&format!("policies/target-connect/{}", policy.id)).await;
    };
    for policy in client.policies().await.unwrap() {
        delete(&policy.content.name).await;
    }
    // A policy with another verb names this person and target.
    site.allow_verbs("debug", "root", &["Handler:debug"]).await;
    let said = site.run("bz generate ssh-config").await;
    assert!(said.contains("There is no target that you may reach by SSH"), "{said}");
    assert!(!site.at("bz/default/ssh-config").exists());
    let refused = site.fails("bz ssh-proxy root@web").await;
    assert!(refused.contains("none allows this verb"), "{refused}");

    site.allow("ssh", &site.person.name).await;
    let said = site.run("bz generate ssh-config").await;
    let file = site.at("bz/default/ssh-config");
    assert!(said.contains(&format!("Include \"{}\"", file.display())) && said.contains("web.Default, web"), "{said}");
    assert!(!site.at(".ssh/config").exists(), "a person's own file is not touched unasked");
    assert_eq!(site.run("stat -c %a bz/default/ssh-config").await, "600\n");
    site.run("mkdir .ssh && echo 'Host other' > .ssh/config && bz generate ssh-config --include").await;
    site.run("bz generate ssh-config --include").await;
    let own = std::fs::read_to_string(site.at(".ssh/config")).unwrap();
    assert_eq!(own, format!("Include \"{}\"\n\nHost other\n", file.display()), "once, and before everything else");
    site.run("ssh -F $F $U@web true").await;
    let refused = site.fails("ssh -F $F root@web true").await;
    assert!(refused.contains("policies allow this verb on this target, but not as this user"), "{refused}");

    delete("ssh").await;
    site.run("bz generate ssh-config").await;
    assert!(!file.exists(), "the hosts are gone with the policy");
    let refused = site.fails("ssh -F $F $U@web true").await;
    assert!(refused.contains("Could not resolve hostname web"), "{refused}");
    site.stop().await;
}

/// F-019: a verb is one user's: who may tunnel as one of them and have a shell as another reaches both, each in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn each_user_goes_the_way_that_policy_gives() {
    let Some(site) = Site::start().await else { return };
    // As root the person has a shell from the beginning.
    site.allow("tunnel", &site.person.name).await;
    let refused = site.fails("bz ssh-proxy root@web").await;
    assert!(refused.contains("not as this user") && refused.contains("bz generate ssh-config"), "{refused}");
    let said = site.run("bz generate ssh-config --include 2>&1").await;
    assert!(said.contains("root@web.Default, root@web:"), "{said}");
    assert_eq!(site.run("ssh -F $F root@web id -un").await, "root\n");
    assert_eq!(site.let_in(), Vec::<String>::new(), "the agent's own");
    site.run("ssh -F $F $U@web true").await;
    assert_eq!(site.let_in().len(), 1, "the host's own");
    site.stop().await;
}

/// F-092: `{username}` is the person's own user of the host, by `ssh` and in a shell; one that does not exist there is not made, and one of the
/// system's is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_decides_which_users_there_are() {
    let Some(site) = Site::start().await else { return };
    site.allow("own", "{username}").await;
    site.allow("missing", "no-such-user").await;
    site.run("bz generate ssh-config --include").await;
    assert_eq!(site.run("ssh -F $F $U@web id -un").await, format!("{}\n", site.person.name));
    site.run("bz policy create target-access --name shells --user $U@example.com --target web --target-user '{username}' --verb Shell").await;
    assert_eq!(site.run("bz exec $U@web -- id -un").await, format!("{}\n", site.person.name));
    let refused = site.fails("ssh -F $F no-such-user@web true").await;
    assert!(refused.contains("the target user does not exist on the host"), "{refused}");
    assert!(!std::fs::read_to_string("/etc/passwd").unwrap().contains("no-such-user"));
    site.stop().await;
}

/// F-247: a certificate is good for one key, one user, a minute and this machine alone; a person's own keys are never
/// offered, though they would be let in, and a host with another key than the agent's own is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_for_one_user_one_minute_and_one_machine() {
    if !needs::program("ssh-agent") {
        return;
    }
    let Some(site) = Site::ready().await else { return };
    let Some(other) = Person::with_shell(&needs::find("bash").unwrap()) else { return };
    let name = format!("{}@{HOST}", site.person.name).parse().unwrap();
    let opened = site.world.client.ssh(&name).await.unwrap();
    shows(&site, &opened.credential).await;

    let user = site.person.name.parse().unwrap();
    site.tries(&opened.credential, (&user, "127.0.0.1")).await.expect("it is good as it is");
    let denied = |said: Result<(), String>| {
        let said = said.unwrap_err();
        assert!(said.contains("Permission denied (publickey)"), "{said}");
    };
    let someone = other.name.parse().unwrap();
    denied(
        site.tries(
            &Credential { user: someone, ..opened.credential.clone() },
            (&other.name.parse().unwrap(), "127.0.0.1"),
        )
        .await,
    );
    assert!(site.log().contains("Certificate invalid: name is not a listed principal"), "{}", site.log());
    denied(site.tries(&opened.credential, (&user, "127.0.0.2")).await);
    let log = site.log();
    assert!(
        log.contains("not from a permitted source address") || log.contains("from an unauthorized source"),
        "{log}"
    );
    let now = SystemClock::new().now().wall;
    denied(site.tries(&made_at(&site, &user, now.before(Duration::from_secs(62))), (&user, "127.0.0.1")).await);
    assert!(site.log().contains("Certificate invalid: expired"), "{}", site.log());
    site.tries(&made_at(&site, &user, now), (&user, "127.0.0.1")).await.expect("the same of this minute is good");

    own_keys_stay(&site).await;
    site.run("ssh-keygen -q -t ed25519 -N '' -f other_key && mv other_key.pub host_key.pub").await;
    let refused = site.fails("ssh -F $F $U@web true").await;
    assert!(refused.contains("Host key verification failed"), "{refused}");
    std::fs::remove_file(site.at("host_key.pub")).unwrap();
    let refused = site.fails("ssh -F $F $U@web true").await;
    assert!(refused.contains("the agent cannot do this now"), "{refused}");
    site.stop().await;
}

/// What OpenSSH reads in a session's certificate.
async fn shows(site: &Site, credential: &Credential) {
    let line = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &credential.certificate);
    std::fs::write(site.at("id-cert.pub"), format!("ecdsa-sha2-nistp256-cert-v01@openssh.com {line}\n")).unwrap();
    let read = site.run("ssh-keygen -L -f id-cert.pub").await;
    let words = read.split_whitespace().collect::<Vec<_>>().join(" ");
    let principals = format!("Principals: {} Critical Options: source-address 127.0.0.1/32,::1/128", site.person.name);
    for part in [
        "user certificate",
        &principals,
        "Extensions: permit-X11-forwarding permit-agent-forwarding permit-port-forwarding permit-pty permit-user-rc",
    ] {
        assert!(words.contains(part), "no {part:?} in {read}");
    }
    let authority = site.run("ssh-keygen -l -f agent/ssh-ca.pub").await;
    assert!(words.contains(authority.split_whitespace().nth(1).unwrap()), "signed by another key: {read}");
    let valid = read.lines().find_map(|line| line.trim().strip_prefix("Valid: from ")).unwrap();
    let (from, to) = valid.split_once(" to ").unwrap();
    let life = site.run(&format!("echo $(($(date -d {to} +%s) - $(date -d {from} +%s)))")).await;
    assert_eq!(life, "65\n", "a minute, and five seconds for a clock in whole seconds");
}

/// A certificate such as this host's agent makes, of that moment.
fn made_at(site: &Site, user: &TargetUser, at: UnixTime) -> Credential {
    let mut bytes = [0; 32];
    let kept = std::fs::read_to_string(site.at("agent/ssh-ca.key")).unwrap();
    for (byte, digits) in bytes.iter_mut().zip(kept.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(&text(digits), 16).unwrap();
    }
    let authority = SshKey::from_bytes(&bytes).unwrap();
    let key = SshKey::from_seed(&[5; 32]).unwrap();
    let certificate = UserCertificate {
        key: &key.public(),
        principal: user,
        id: "of another minute",
        serial: 1,
        after: at.before(Duration::from_secs(5)),
        before: at.after(Duration::from_secs(60)),
        sources: "127.0.0.1/32,::1/128",
    };
    let certificate = certificate.sign(&[6; 32], &authority);
    Credential { key, certificate, user: user.clone() }
}

/// Keys of the person's own, on disk, in an agent, and named by the person's own configuration.
async fn own_keys_stay(site: &Site) {
    let home = format!("/home/{}/.ssh", site.person.name);
    let keys = "ssh-keygen -q -t ed25519 -N '' -f own && ssh-keygen -q -t ecdsa -N '' -f own2";
    site.run(&format!(
        "{keys} && mkdir {home} && cat own.pub own2.pub > {home}/authorized_keys && chown -R $U {home} && \
         printf '\\nHost *\\n  IdentityFile {}\\n' >> $F",
        site.at("own").display()
    ))
    .await;
    // They would be let in.
    let plain = format!(
        "ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p {} -i own $U@127.0.0.1 true",
        site.port
    );
    site.run(&plain).await;
    let with_agent = "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q own own2;";
    let said = site.run(&format!("{with_agent} ssh -v -F $F -i own2 $U@web true 2>&1")).await;
    let offered: Vec<_> = said.lines().filter(|line| line.contains("Offering public key")).collect();
    assert!(offered.len() == 1 && offered[0].contains("ECDSA-CERT"), "{offered:#?}\n{said}");
    let without = format!("{with_agent} ssh -v -F $F -i own2 -o IdentityAgent=$SSH_AUTH_SOCK $U@web true");
    let refused = site.fails(&without).await;
    assert!(refused.contains("Permission denied (publickey)") && !refused.contains("Offering"), "{refused}");
}

impl Site {
    /// Whether sshd lets a credential in, from this address of this machine.
    pub(super) async fn tries(&self, credential: &Credential, (user, from): (&TargetUser, &str)) -> Result<(), String> {
        self.tries_at(self.port, credential, (user, from)).await
    }

    /// The same of whoever listens on this port.
    pub(super) async fn tries_at(
        &self,
        port: u16,
        credential: &Credential,
        (user, from): (&TargetUser, &str),
    ) -> Result<(), String> {
        let names = Names::new(&self.at("door"), &HOST.parse().unwrap()).unwrap();
        let door = names.open(user, &[]).await.unwrap();
        let line = format!(
            "ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentityFile=none -o BatchMode=yes \
             -o IdentityAgent={} -b {from} -p {port} {user}@127.0.0.1 true",
            names.socket(user.as_str()).display()
        );
        let keys =
            [bz_core::ssh::HostKey::from_line(&std::fs::read_to_string(self.at("host_key.pub")).unwrap()).unwrap()];
        let serve = async {
            door.serve(&OneLogin::new(credential, &keys)).await.unwrap();
            std::future::pending::<()>().await;
        };
        let output = tokio::select! {
            output = self.try_run(&line) => output,
            () = serve => unreachable!(),
        };
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    }
}
