//! The fuzzer calls the target `config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("config", bytes));
