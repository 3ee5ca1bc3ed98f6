//! `docs/connecting.md`, section "Files", and copies that are cut, with the real programs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bz_core::digest::Digest;
use serde_json::Value;

use super::desk::{Program, text};
use super::page::Page;
use super::{PERSON, Place};

const PAGE: &str = include_str!("../../../../docs/connecting.md");

/// More than goes over in a moment.
const SIZE: usize = 96 << 20;
/// What is there when a copy is cut.
const BEFORE: u64 = 8 << 20;
/// The most memory that a program may need for it.
const MEMORY: u64 = 64 << 20;

/// F-084~, F-178~, F-214~: the section as written, by a person who meets the target with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_section_on_files_is_as_written() {
    let Some(place) = Place::start().await else { return };
    let section = PAGE.split("\n## ").find_map(|section| section.strip_prefix("Files\n")).expect("a section on files");
    let mut page = Page::of(section);
    page.put("YOU@example.com", &format!("{PERSON}@example.com"));
    page.put("root", &place.user);
    page.put("/srv", &place.desk.at("srv").display());
    let at = |name: &str| place.desk.at(name);
    for folder in ["srv", "site"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    std::fs::write(at("report.txt"), b"a report\n").unwrap();
    std::fs::write(at("site/index.html"), b"<p>").unwrap();

    place.desk.run(&page.next("bz policy create")).await;
    let mut window = place.desk.terminal(&page.next("bz cp"));
    window.shows("web is new to this machine").await;
    window.shows("Copied 1 file: 9 B").await;
    assert_eq!(window.ends().await, Some(0));
    place.desk.run(&page.next("bz cp -r")).await;
    place.desk.run(&page.next("bz cp")).await;
    let read = |name: &str| std::fs::read(at(name)).unwrap();
    assert_eq!((read("srv/report.txt"), read("srv/site/index.html")), (b"a report\n".to_vec(), b"<p>".to_vec()));
    assert_eq!(read("here.html"), b"<p>");
    let said = place.desk.run(&page.next("bz --json cp")).await;
    let [row, summary] = said.lines().map(json).collect::<Vec<_>>().try_into().unwrap();
    let path = at("srv/site/index.html").display().to_string();
    assert_eq!((row["path"].as_str(), row["size"].as_u64()), (Some(path.as_str()), Some(3)), "{row}");
    assert_eq!(row["sha256"].as_str(), Some(Digest::of(b"<p>").to_string().as_str()));
    assert_eq!((summary["summary"]["files"].as_u64(), summary["summary"]["failed"].as_u64()), (Some(1), Some(0)));
    assert_eq!(read("copy/index.html"), b"<p>");
    let four = |said: &str| said.matches(" copied ").count() == 4;
    let log = place.desk.run_until(&page.next("bz logs files"), four).await;
    assert!(log.contains(&path) && !log.contains(" no\n"), "{log}");
    page.ends();

    let complains = async |line: &str, status: i32, wanted: &str| {
        let output = place.desk.try_run(line).await;
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(status) && said.contains(wanted), "{line}: {} {said}", output.status);
    };
    let there = format!("{}@web:{}", place.user, at("srv").display());
    complains(&format!("bz cp site {there}"), 1, "site is a directory: use -r").await;
    complains(&format!("bz cp {there} here"), 1, "is a directory: use -r (on the target)").await;
    complains(&format!("bz cp {there}/absent ."), 1, "/absent: no such file or directory (on the target)").await;
    complains("bz cp absent x", 1, "both sides are paths here").await;
    complains(&format!("bz cp absent {there}"), 1, "No such file or directory").await;
    complains(&format!("bz cp {there} {there}"), 1, "both sides are on targets").await;
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// F-214~: a copy whose client or agent is killed, or that is interrupted, goes on where it was; what is there is not
/// sent again, no part is seen under the whole's name, and neither program holds more than a little of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_goes_on() {
    let Some(mut place) = Place::start().await else { return };
    let allow = format!(
        "bz policy create target-access --name copies --user {PERSON}@example.com --target web --target-user {} \
         --verb FileTransfer",
        place.user
    );
    place.desk.run(&allow).await;
    let content: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect();
    std::fs::write(place.desk.at("big"), &content).unwrap();
    std::fs::create_dir(place.desk.at("there")).unwrap();
    let cut = Cut { place: &mut place, digest: Digest::of(&content).to_string() };
    cut.meet().await;

    let mut copy = cut.begin().await;
    cut.is_frugal(&copy);
    copy.kill().await;
    cut.goes_on("the client was killed").await;

    let mut copy = cut.begin().await;
    Command::new("kill").args(["-INT", &copy.pid().to_string()]).status().unwrap();
    copy.says("Stopped. Start it again to go on").await;
    assert_eq!(copy.ends().await, Some(130));
    cut.goes_on("it was interrupted").await;

    let mut copy = cut.begin().await;
    cut.place.agent.kill().await;
    cut.place.agent = cut.place.desk.start(&cut.place.run_agent);
    copy.says("start it again to go on with the rest").await;
    assert_eq!(copy.ends().await, Some(1));
    cut.goes_on("the agent was killed").await;
}

struct Cut<'a> {
    place: &'a mut Place,
    digest: String,
}

impl Cut<'_> {
    fn line(&self, options: &str) -> String {
        let there = self.place.desk.at("there/big");
        format!("bz {options} cp big {}@web:{}", self.place.user, there.display())
    }

    /// A person sees the target's key for the first time.
    async fn meet(&self) {
        std::fs::write(self.place.desk.at("small"), b"x").unwrap();
        let there = self.place.desk.at("there");
        let line = format!("bz cp small {}@web:{}", self.place.user, there.display());
        let mut window = self.place.desk.terminal(&line);
        window.shows("Copied 1 file").await;
        assert_eq!(window.ends().await, Some(0));
    }

    fn partial(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.place.desk.at("there")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "partial"))
    }

    /// A copy of which something is there.
    async fn begin(&self) -> Program {
        let copy = self.place.desk.start(&self.line(""));
        let grown = async {
            let length = || self.partial().and_then(|path| path.metadata().ok()).map_or(0, |found| found.len());
            while length() < BEFORE {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), grown).await.expect("a part of the file arrives");
        assert!(!self.place.desk.at("there/big").exists(), "the whole arrived before it could be cut");
        copy
    }

    async fn goes_on(&self, after: &str) {
        assert!(!self.place.desk.at("there/big").exists(), "{after}: a part is seen under the whole's name");
        let said = self
            .place
            .desk
            .run_until(&format!("{} || true", self.line("--json")), |said| said.contains("sha256"))
            .await;
        let rows: Vec<Value> = said.lines().map(json).collect();
        assert_eq!(rows[0]["sha256"].as_str(), Some(self.digest.as_str()), "{after}: {said}");
        let resumed = rows[1]["summary"]["resumed"].as_u64().unwrap();
        assert!(resumed >= BEFORE, "{after}: only {resumed} bytes were not sent again");
        assert_eq!(self.partial(), None, "{after}");
        std::fs::remove_file(self.place.desk.at("there/big")).unwrap();
    }

    /// Client, agent and the process that writes.
    fn is_frugal(&self, copy: &Program) {
        let agent = self.place.agent.pid();
        let tasks = std::fs::read_dir(format!("/proc/{agent}/task")).unwrap();
        let children = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap());
        let children: Vec<u32> = children
            .flat_map(|all| all.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        assert!(!children.is_empty(), "nobody writes the file");
        for pid in children.into_iter().chain([agent, copy.pid()]) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
            let most: u64 = most.trim_end_matches(" kB").parse().unwrap();
            assert!(most * 1024 < MEMORY, "{most} KiB in process {pid}: {}", status.lines().next().unwrap());
        }
    }
}
