//! The fuzzer calls the target `grant`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("grant", bytes));
