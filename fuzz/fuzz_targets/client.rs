//! The fuzzer calls the target `client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("client", bytes));
