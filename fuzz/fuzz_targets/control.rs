//! The fuzzer calls the target `control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("control", bytes));
