//! `cargo hostile`: a hostile server against the real agent and the real client, and against the pure machines.

use std::process::ExitCode;

use anyhow::Result;
use bz_examples::hostile::{Way, play_over};
use bz_protocol::hostile::{KitError, Outcome, SCENARIOS, Scenario};
use clap::Parser;
use serde_json::json;

/// Plays what a hostile server can do, and says who noticed.
#[derive(Debug, Parser)]
#[command(name = "cargo hostile", bin_name = "cargo hostile")]
struct Arguments {
    /// One JSON object for each scenario and carrier
    #[arg(long)]
    json: bool,

    /// Only the scenarios whose id is this or whose name contains it
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// What the random choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let wanted = |scenario: &&Scenario| {
        arguments.only.as_ref().is_none_or(|only| scenario.id == only || scenario.name.contains(only.as_str()))
    };
    let mut bad = 0;
    for scenario in SCENARIOS.iter().filter(wanted) {
        for way in [Way::Ws, Way::Quic] {
            let outcome = play_over(way, scenario, arguments.seed).await;
            bad += u32::from(!outcome.as_ref().is_ok_and(Outcome::is_good));
            show(&arguments, scenario, &outcome);
        }
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(arguments: &Arguments, scenario: &Scenario, outcome: &Result<Outcome, KitError>) {
    match outcome {
        Ok(outcome) if arguments.json => say(&json!({
            "id": scenario.id, "name": scenario.name, "carrier": outcome.carrier, "did": scenario.does,
            "noticed": outcome.noticed.iter().map(|who| who.name()).collect::<Vec<_>>(),
            "saw": outcome.saw, "verdict": outcome.verdict(), "harm": outcome.harm, "unexpected": outcome.unexpected,
            "seed": outcome.seed, "note": scenario.note,
        })
        .to_string()),
        Ok(outcome) => {
            let who: Vec<_> = outcome.noticed.iter().map(|who| who.name()).collect();
            let saw = outcome.saw.lines().next().unwrap_or_default();
            say(&format!(
                "{:<12} {:<8} {:<10} {:<13} {:<60} {saw}",
                scenario.id,
                outcome.carrier,
                outcome.verdict(),
                who.join("+"),
                scenario.does
            ));
            for wrong in outcome.harm.iter().chain(&outcome.unexpected) {
                say(&format!("             {wrong}"));
            }
        }
        Err(error) => say(&format!("{:<12} could not be played: {error}", scenario.id)),
    }
}

#[expect(clippy::print_stdout, reason = "this program speaks to the person who runs it")]
fn say(line: &str) {
    println!("{line}");
}
