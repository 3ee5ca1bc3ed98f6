//! Exactly once, whatever happens to the carriers.

use std::time::Duration;

use bz_core::access::Mode;
use bz_protocol::frame::Fin;
use bz_protocol::session::End;

use crate::sim::Sim;
use crate::world::World;

/// Seeds of a run: 500 in the default size, 10,000 with `BZ_TEST=full`, or the one that `BZ_SEED` names.
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("BZ_SEED").ok().and_then(|s| s.parse().ok()) {
        return seed..seed + 1;
    }
    if std::env::var("BZ_TEST").is_ok_and(|size| size == "full") { 0..10_000 } else { 0..500 }
}

/// PR-RESUME-1 (H4): a session's bytes are exact after its carrier was cut at random points.
#[test]
fn bytes_are_exact_whenever_the_carrier_is_cut() {
    for seed in seeds() {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut world = World::new();
    world.mode = if seed.is_multiple_of(2) { Mode::Inspected } else { Mode::Sealed };
    let mut sim = Sim::new(&world, seed);
    sim.client_app.to_send = sim.random.below(200_000) as usize;
    sim.agent_app.to_send = sim.random.below(800_000) as usize;
    sim.latency = Duration::from_millis(1 + sim.random.below(80));
    sim.connect();
    let what = format!("replay with BZ_SEED={seed}");
    for _ in 0..2000 {
        let busy = sim.client_app.received.len() < sim.agent_app.to_send
            || sim.agent_app.received.len() < sim.client_app.to_send;
        if !busy {
            break;
        }
        let time = sim.random.below(400);
        sim.pass(Duration::from_millis(time));
        if sim.random.below(3) == 0 {
            sim.cut();
            let time = sim.random.below(3000);
            sim.pass(Duration::from_millis(time));
            sim.connect();
        }
        assert_eq!((&sim.client_ended, &sim.agent_ended), (&None, &None), "{what}");
    }
    sim.check_exact(&what);
    sim.close();
    assert_eq!(sim.client_ended, Some(End::Completed(Fin::Exited(0))), "{what}");
    assert_eq!(sim.agent_ended, Some(End::Completed(Fin::Exited(0))), "{what}");
}
