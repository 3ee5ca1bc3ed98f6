//! The fuzzer calls the target `agent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("agent", bytes));
