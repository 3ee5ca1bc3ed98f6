//! The fuzzer calls the target `transcript`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("transcript", bytes));
