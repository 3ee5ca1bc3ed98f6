//! The fuzzer calls the target `certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("certificate", bytes));
