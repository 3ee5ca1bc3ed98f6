//! The fuzzer calls the target `frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("frames", bytes));
