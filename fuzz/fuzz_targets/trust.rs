//! The fuzzer calls the target `trust`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("trust", bytes));
