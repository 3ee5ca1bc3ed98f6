//! `docs/admin/mfa.md`, as written, with the real programs; codes are those of the secret that the terminal shows.

use bz_core::time::UnixTime;
use bz_core::totp::{TotpSecret, step};

use super::desk::{Program, Terminal, text};
use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/admin/mfa.md");

/// F-047, F-048, F-059~, F-060~, F-061~, F-236: the page: a secret from the terminal, a login that gives its code, what
/// everybody must, what an administrator does about somebody else's, and what a target's owner demands.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_the_second_factor_is_as_written() {
    let Some(mut place) = Place::start().await else { return };
    let mut page = Page::of(PAGE);
    let (you, other) = (format!("{PERSON}@example.com"), "bob@example.com");
    page.put("YOU@example.com", &you);
    page.put("SOMEBODY@example.com", &other);
    let exec = format!("bz exec {}@web -- echo in-$((40+2))", place.user);

    // Somebody at a terminal meets the agent, whose owner then demands more.
    let mut first = place.desk.terminal(&exec);
    first.shows("in-42").await;
    assert_eq!(first.ends().await, Some(0));
    owner_demands(&place, "require_mfa = true").await;
    refused_by_owner(&mut place, &exec).await;
    let mut app = App::scan(place.desk.terminal(&page.next("bz mfa setup"))).await;
    assert_eq!(app.window.ends().await, Some(0));
    assert_eq!(place.desk.run(&exec).await, "in-42\n", "the grant names the second factor");

    let status = page.next("bz mfa status");
    let said = place.desk.run(&status).await;
    assert!(said.contains("Set up") && said.contains("Recovery codes left  10"), "{said}");
    page.put("CODE", &app.code());
    let login = page.next("bz login");
    let again = login_again(&mut place, &login, PERSON).await;
    assert_eq!(again.0, Some(0), "{}", again.1);
    let (status_of_replay, said) = login_again(&mut place, &login, PERSON).await;
    assert!(status_of_replay == Some(18) && said.contains("was used before"), "a code was taken twice: {said}");
    let output = place.desk.try_run(&exec).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(18) && said.contains("bz mfa verify"), "{said}");
    place.desk.run(&format!("bz mfa verify {}", app.code())).await;
    assert_eq!(place.desk.run(&exec).await, "in-42\n");
    owner_demands(&place, "mfa_minutes = 60").await;
    assert_eq!(place.desk.run(&exec).await, "in-42\n");

    let codes = place.desk.run(&page.next("bz mfa recovery-codes")).await;
    assert_eq!(codes.lines().count(), 10, "{codes}");
    let mut app = App::scan(place.desk.terminal(&page.next("bz mfa reset"))).await;
    assert_eq!(app.window.ends().await, Some(0));

    let said = place.desk.run(&page.next("bz policy organization-controls")).await;
    assert!(said.contains("demanded of everybody") && said.contains("after 12 hours"), "{said}");
    somebody_elses(&mut place, &mut page).await;

    place.desk.run(&page.next("bz-server --config")).await;
    let output = place.desk.try_run(&status).await;
    assert_eq!(output.status.code(), Some(18), "every login has ended: {}", text(&output.stderr));
    page.ends();
}

/// Bob comes after the demand: he may wait, enrolls all the same, loses his app, and is exempted.
async fn somebody_elses(place: &mut Place, page: &mut Page) {
    let ca = place.desk.at("data/ca.crt");
    let login = format!("bz --profile bob login --server {} --ca {}", place.url, ca.display());
    let (ended, said) = login_again(place, &login, "bob").await;
    assert!(ended == Some(0) && said.contains("Set it up before"), "{said}");
    let mut app = App::scan(place.desk.terminal("bz --profile bob mfa setup")).await;
    assert_eq!(app.window.ends().await, Some(0));
    let said = place.desk.run(&page.next("bz user mfa status")).await;
    assert!(said.contains("Demanded") && said.contains("Recovery codes left  10"), "{said}");
    place.desk.run(&page.next("bz user mfa reset")).await;
    let ended = place.desk.try_run("bz --profile bob lt").await;
    assert_eq!(ended.status.code(), Some(18), "{}", text(&ended.stderr));
    // Who logs in next enrolls at once, in the same run.
    place.desk.run("rm home/.config/bz/bob/login.json").await;
    let window = place.desk.terminal(&login);
    place.desk.log_in_at_the_browser("bob").await;
    let mut app = App::scan(window).await;
    app.window.shows("The second factor is set up.").await;
    assert_eq!(app.window.ends().await, Some(0));

    let warned = place.desk.try_run(&page.next("bz user mfa disable")).await;
    assert!(warned.status.success() && text(&warned.stderr).contains("WARNING"), "{}", text(&warned.stderr));
    let (ended, said) = login_again(place, &login, "bob").await;
    assert!(ended == Some(0) && !said.contains("second factor"), "{said}");
    place.desk.run(&page.next("bz user mfa enable")).await;
    let asked = place.desk.try_run("bz --profile bob lt").await;
    assert_eq!(asked.status.code(), Some(18), "{}", text(&asked.stderr));
    let log = place.desk.run("bz logs users --json").await;
    assert!(log.contains("mfaservice:disable") && log.contains("WARNING"), "{log}");
}

/// The host's owner demands something of everybody, and the agent takes it up.
async fn owner_demands(place: &Place, rule: &str) {
    let example = place.desk.run("bz-agent policy example").await;
    let narrowed = example.replace("{username}", &place.user).replace("# modes", &format!("{rule}\n# modes"));
    std::fs::write(place.desk.at("agent-policy.toml"), narrowed).unwrap();
    place.desk.run("chmod 600 agent-policy.toml && bz-agent policy check").await;
    place.desk.run(&format!("kill -HUP {}", place.agent.pid())).await;
}

async fn refused_by_owner(place: &mut Place, exec: &str) {
    // Taken up when the signal came through.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let output = place.desk.try_run(exec).await;
        if !output.status.success() {
            place.agent.says("the local policy requires a second factor").await;
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the agent does not take up its new policy");
    }
}

/// Runs a login to its end; its status and what it said.
async fn login_again(place: &mut Place, line: &str, person: &str) -> (Option<i32>, String) {
    let mut login: Program = place.desk.start(line);
    place.desk.log_in_at_the_browser(person).await;
    let ended = login.ends().await;
    (ended, login.said())
}

/// An authenticator app that scanned what a window shows.
struct App {
    window: Terminal,
    secret: TotpSecret,
    used: u64,
}

impl App {
    /// Reads the secret off a window, and types its first code there.
    async fn scan(mut window: Terminal) -> Self {
        let shown = window.shows("Code of your second factor:").await;
        assert!(shown.contains('\u{2588}'), "no QR code");
        let line = shown.lines().find_map(|line| line.trim().strip_prefix("Secret: ")).expect("the secret as text");
        let mut app = Self { window, secret: line.parse().expect(line), used: 0 };
        let code = app.code();
        app.window.types(&format!("{code}\r")).await;
        app
    }

    /// The earliest code that the server still takes.
    fn code(&mut self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let step = step(UnixTime::from_secs(now.as_secs()));
        self.used = (step - 1).max(self.used + 1);
        assert!(self.used <= step + 1, "three codes were taken in one step: the test must wait");
        self.secret.code(self.used)
    }
}
