//! `cargo compare`: what we take for work, and what people have today takes for the same, in one run.
//!
//! On loopback: our server and agent in this process with `bz` beside it, and an sshd that is jump host and target. Each
//! kind of work is done once unmeasured, then in turn, A B A B; medians count. Absent: memory, growth, and numbers that
//! mean anything on another machine, save the ratios.

mod flood;
mod measure;
mod row;
mod site;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use bz_agent::helper::{self, Helper};
use bz_examples::world::Way;
use clap::Parser;

use crate::measure::alternate;
use crate::row::{Better, Row, table};
use crate::site::{DATABASE, HOST, Site, free_port, postgres_folder};

/// Measures this product and its peers side by side, and prints medians and ratios.
///
/// Build it with optimizations, as `cargo compare` does, and leave the machine alone meanwhile: it takes some minutes.
/// A ratio above 1 means that we lead; a goal says how far we mean to lead.
#[derive(Debug, Parser)]
#[command(name = "cargo compare", bin_name = "cargo compare")]
struct Arguments {
    /// One JSON object for each row
    #[arg(long)]
    json: bool,
    /// Rows whose name contains this; all when absent
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How many MiB are copied
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mib: u64,
    /// How often short work is done
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// How many seconds each run of a database's load takes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Where `bz` and `bz-agent` are; they are built when this is absent
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Bulk work is done so often.
const BULK_RUNS: usize = 3;

fn main() -> ExitCode {
    let helper = helper::enter();
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_env_filter("error").with_writer(std::io::stderr).init();
    let result = tokio::runtime::Runtime::new()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run(&helper, &arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody listens to a complaint about that.
            writeln!(std::io::stderr(), "compare: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

async fn run(helper: &Helper, arguments: &Arguments) -> Result<()> {
    let programs = match &arguments.programs {
        Some(folder) => std::path::absolute(folder)?,
        None => programs().await?,
    };
    if cfg!(debug_assertions) {
        progress("this is built without optimizations: its figures say nothing");
    }
    let mut rows = Rows { arguments, rows: vec![] };
    for way in [Way::Ws, Way::Quic] {
        let site = Site::start(helper.clone(), &programs, way).await?;
        match way {
            Way::Ws | Way::Auto => {
                rows.starts(&site).await?;
                rows.copies(&site).await?;
                rows.tunnel(&site, ("ws", 2.5)).await?;
                rows.null_relay(&site).await?;
                rows.database(&site).await?;
            }
            Way::Quic => rows.tunnel(&site, ("quic", 1.5)).await?,
        }
        site.stop().await;
    }
    if !arguments.json {
        write!(std::io::stdout(), "{}", table(&rows.rows))?;
    }
    Ok(())
}

struct Rows<'a> {
    arguments: &'a Arguments,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn wants(&self, name: &str) -> bool {
        self.arguments.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    fn add(&mut self, row: Row) -> Result<()> {
        if self.arguments.json {
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&row)?)?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.arguments.mib << 20
    }

    fn runs(&self) -> usize {
        self.arguments.runs.into()
    }

    async fn starts(&mut self, site: &Site) -> Result<()> {
        if !self.wants("session start, cold") && !self.wants("ssh session start") {
            return Ok(());
        }
        progress("starts of sessions");
        let user = site.user();
        let line = async |text: String| site.run(&text).await.map(drop);
        let opening = async || line(format!("bz exec {user}@{HOST} -- true")).await;
        let ours = async || line(format!("ssh -F $OURS {user}@{HOST} true")).await;
        let direct = async || line("ssh -F $DIRECT direct true".to_owned()).await;
        let jumped = async || line("ssh -F $DIRECT jumped true".to_owned()).await;
        let found =
            alternate(self.runs(), &[("opening", &opening), ("ours", &ours), ("direct", &direct), ("jumped", &jumped)])
                .await?;
        let of = |name: &str| found.get(name).map_or(f64::NAN, |median| median.seconds);
        let seconds = ("s", Better::Less);
        self.add(Row::new("session start, cold", seconds, (of("opening"), "ssh -J", of("jumped")), 10.0))?;
        let sum = of("direct") + of("opening");
        self.add(Row::new("ssh session start", seconds, (of("ours"), "ssh + opening", sum), 1.0 / 1.2))
    }

    async fn copies(&mut self, site: &Site) -> Result<()> {
        let user = site.user();
        let random = format!("head -c {} /dev/urandom > big", self.bytes());
        for (name, ours, theirs) in [
            (
                "scp",
                format!("scp -F $OURS big {user}@{HOST}:$HOME/copy"),
                "scp -F $DIRECT big jumped:$HOME/copy".to_owned(),
            ),
            (
                "rsync",
                format!("rm -f copy; rsync -e \"ssh -F $OURS\" big {user}@{HOST}:$HOME/copy"),
                "rm -f copy; rsync -e \"ssh -F $DIRECT\" big jumped:$HOME/copy".to_owned(),
            ),
        ] {
            let title = format!("{name} of {} MiB", self.arguments.mib);
            if !self.wants(&title) {
                continue;
            }
            progress(&title);
            site.run(&random).await?;
            let ours = async || site.run(&ours).await.map(drop);
            let theirs = async || site.run(&theirs).await.map(drop);
            let found = alternate(BULK_RUNS, &[("ours", &ours), ("theirs", &theirs)]).await?;
            let of = |name: &str| found.get(name).map_or(f64::NAN, |median| median.seconds);
            self.add(Row::new(&title, ("s", Better::Less), (of("ours"), "ssh -J", of("theirs")), 0.9))?;
        }
        Ok(())
    }

    /// Any protocol through us, sealed, and through a jump host.
    async fn tunnel(&mut self, site: &Site, (way, goal): (&str, f64)) -> Result<()> {
        let title = format!("sealed tunnel, {way}");
        if !self.wants(&title) {
            return Ok(());
        }
        progress(&title);
        let bytes = self.bytes();
        let source = flood::source(bytes).await?.port();
        let (ours, theirs, aes) = (free_port()?, free_port()?, free_port()?);
        let _open = [
            site.leads(&format!("bz forward {HOST} {ours}:127.0.0.1:{source}"), ours).await?,
            site.leads(&format!("ssh -F $DIRECT -N -L {theirs}:127.0.0.1:{source} jumped"), theirs).await?,
            site.leads(&format!("ssh -F $DIRECT -c aes128-gcm@openssh.com -N -L {aes}:127.0.0.1:{source} jumped"), aes)
                .await?,
        ];
        let through = |port: u16| async move || flood::take(port, bytes).await;
        let (ours, theirs, aes) = (through(ours), through(theirs), through(aes));
        let found = alternate(BULK_RUNS, &[("ours", &ours), ("theirs", &theirs), ("aes", &aes)]).await?;
        let of = |name: &str| found.get(name).copied().context("a measurement");
        let (ours, theirs, aes) = (of("ours")?, of("theirs")?, of("aes")?);
        let speed = |seconds: f64| bytes as f64 / f64::from(1 << 20) / seconds;
        let figures = (speed(ours.seconds), "ssh -J -L", speed(theirs.seconds));
        self.add(Row::new(&title, ("MiB/s", Better::More), figures, goal))?;
        let figures = (speed(ours.seconds), "ssh -J -L, aes128-gcm", speed(aes.seconds));
        self.add(Row::new(&title, ("MiB/s", Better::More), figures, goal))?;
        let gib = bytes as f64 / f64::from(1 << 30);
        let figures = (ours.cpu / gib, "ssh -J -L", theirs.cpu / gib);
        self.add(Row::new(&format!("{title}: CPU"), ("s/GiB", Better::Less), figures, 2.0))
    }

    /// What a relay on this machine can carry at all.
    async fn null_relay(&mut self, site: &Site) -> Result<()> {
        let title = "sealed tunnel, ws, against copying";
        if !self.wants(title) {
            return Ok(());
        }
        progress(title);
        let bytes = self.bytes();
        let (source, relay) = (flood::source(bytes).await?.port(), flood::behind_null_relay(bytes).await?);
        let port = free_port()?;
        let _open = site.leads(&format!("bz forward {HOST} {port}:127.0.0.1:{source}"), port).await?;
        let ours = async || flood::take(port, bytes).await;
        let theirs = async || flood::take_tls(&relay, bytes).await;
        let found = alternate(BULK_RUNS, &[("ours", &ours), ("theirs", &theirs)]).await?;
        let speed = |name: &str| {
            let seconds = found.get(name).map_or(f64::NAN, |median| median.seconds);
            bytes as f64 / f64::from(1 << 20) / seconds
        };
        let figures = (speed("ours"), "null TLS relay", speed("theirs"));
        self.add(Row::new(title, ("MiB/s", Better::More), figures, 0.7))
    }

    /// Short transactions, with the log of statements on.
    async fn database(&mut self, site: &Site) -> Result<()> {
        let (Some(database), Some(bin)) = (site.database, postgres_folder()) else {
            progress("no PostgreSQL here: its rows are left out");
            return Ok(());
        };
        if !self.wants("pgbench -S") {
            return Ok(());
        }
        let pgbench = bin.join("pgbench").display().to_string();
        let to = |port: u16| format!("-h 127.0.0.1 -p {port} -U postgres postgres");
        site.run(&format!("{pgbench} -i -q {}", to(database))).await?;
        let (ours, theirs) = (free_port()?, free_port()?);
        let _open = [
            site.leads(&format!("bz connect {DATABASE} --port {ours}"), ours).await?,
            site.leads(&format!("ssh -F $DIRECT -N -L {theirs}:127.0.0.1:{database} jumped"), theirs).await?,
        ];
        for clients in [1, 4] {
            let title = format!("pgbench -S, {clients} at once");
            progress(&title);
            let seconds = self.arguments.seconds;
            let load = async |port: u16| {
                let line = format!("{pgbench} -n -S -c {clients} -j 1 -T {seconds} {}", to(port));
                transactions(&site.run(&line).await?)
            };
            let (mut us, mut them) = (vec![], vec![]);
            for _ in 0..BULK_RUNS {
                us.push(load(ours).await?);
                them.push(load(theirs).await?);
            }
            let figures = (measure::median(us), "ssh -J -L", measure::median(them));
            self.add(Row::new(&title, ("/s", Better::More), figures, 1.2))?;
        }
        Ok(())
    }
}

/// What pgbench says of transactions in a second.
fn transactions(said: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench says no tps")?;
    Ok(line.split(' ').next().unwrap_or_default().parse()?)
}

/// Builds `bz` and `bz-agent` as this program was built; where they are.
async fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a folder")?.to_owned();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = tokio::process::Command::new(cargo);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    command.current_dir(root).args(["build", "--quiet", "--locked", "-p", "bz-client", "-p", "bz-agent"]);
    command.args(["--features", "bz-client/cli,bz-agent/cli"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    progress("building bz and bz-agent");
    let built = command.status().await?;
    ensure!(built.success(), "the programs do not build: {built}");
    ensure!(folder.join("bz").is_file(), "{} has no bz: was this program moved?", folder.display());
    Ok(folder)
}

/// Says what is done meanwhile.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() || std::env::var_os("CI").is_some() {
        // Nobody listens to a complaint about that.
        writeln!(std::io::stderr(), "… {text}").unwrap_or_default();
    }
}
