//! The fuzzer calls the target `policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("policy", bytes));
