//! `cargo hostile`: what a hostile server can do to the real agent and the real client, and to the pure machines.
//!
//! It only prints: scenarios and verdicts are `bz_protocol::hostile`, the ends `bz_examples::hostile`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bz_examples::hostile::{Played, play_all};
use bz_protocol::hostile::{Scenario, scenarios};
use clap::Parser;
use futures::StreamExt as _;
use serde_json::json;

/// Lets a hostile server do everything it can, and says who noticed.
///
/// Each scenario is played three times: with the pure machines in virtual time, and with the real agent and the real
/// client over WebSocket and over QUIC.
#[derive(Debug, Parser)]
#[command(name = "cargo hostile", bin_name = "cargo hostile", after_help = EXAMPLES)]
struct Arguments {
    /// One JSON object for each scenario and carrier
    #[arg(long)]
    json: bool,

    /// The scenario of this id alone, or those whose name contains it
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// What the server's choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  cargo hostile               everything, as a table
  cargo hostile --json        the same for programs
  cargo hostile --only H2     openings that were seen before
  cargo hostile --seed 7      other positions, other bits

The exit code is 0 only if nothing unsafe happened and everything came as expected.";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let only = arguments.only.as_deref();
    let exact = scenarios().any(|scenario| Some(scenario.id) == only);
    let wanted = |scenario: &&'static Scenario| {
        only.is_none_or(|only| if exact { scenario.id == only } else { scenario.name.contains(only) })
    };
    let wanted: Vec<_> = scenarios().filter(wanted).collect();
    if wanted.is_empty() {
        bail!("no scenario has this id or a name that contains it; run `cargo hostile` for all");
    }
    let (mut bad, mut count) = (0_u32, 0_u32);
    let mut played = play_all(wanted, arguments.seed);
    while let Some(played) = played.next().await {
        count += 1;
        bad += u32::from(!played.is_good());
        say(&if arguments.json { object(&played, arguments.seed) } else { row(&played) });
    }
    if !arguments.json {
        say(&format!("{count} runs with seed {}: {bad} unsafe or not as expected", arguments.seed));
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn object(played: &Played, seed: u64) -> String {
    let Scenario { id, name, does, note, .. } = played.scenario;
    let common = json!({"id": id, "name": name, "carrier": played.carrier, "did": does, "seed": seed, "note": note});
    let found = match &played.outcome {
        Ok(outcome) => json!({
            "noticed": outcome.noticed.iter().map(|who| who.name()).collect::<Vec<_>>(),
            "came": outcome.came.iter().map(|came| came.name()).collect::<Vec<_>>(),
            "saw": outcome.saw, "verdict": outcome.verdict(), "harm": outcome.harm, "unexpected": outcome.unexpected,
        }),
        Err(error) => json!({"verdict": "NOT PLAYED", "error": error.to_string()}),
    };
    let mut object = common;
    if let (Some(object), Some(found)) = (object.as_object_mut(), found.as_object()) {
        object.extend(found.clone());
    }
    object.to_string()
}

fn row(played: &Played) -> String {
    let Scenario { id, does, .. } = played.scenario;
    match &played.outcome {
        Ok(outcome) => {
            let who: Vec<_> = outcome.noticed.iter().map(|who| who.name()).collect();
            let saw = outcome.saw.lines().next().unwrap_or_default();
            let (verdict, who) = (outcome.verdict(), if who.is_empty() { "-".to_owned() } else { who.join("+") });
            let wrong = outcome.harm.iter().chain(&outcome.unexpected);
            let wrong: String = wrong.map(|wrong| format!("\n                 {wrong}")).collect();
            format!("{id:<18} {:<9} {verdict:<10} {who:<13} {does}; the person saw: {saw}{wrong}", played.carrier)
        }
        Err(error) => format!("{id:<18} {:<9} NOT PLAYED {error}", played.carrier),
    }
}

#[expect(clippy::print_stdout, reason = "this program speaks to the person who runs it")]
fn say(line: &str) {
    println!("{line}");
}
