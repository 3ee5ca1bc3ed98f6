//! The fuzzer calls the target `streams`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("streams", bytes));
