//! The program that the end-to-end tests give the agent as its helper: a test binary's `main` is not ours.

fn main() {
    drop(bz_agent::helper::enter());
}
