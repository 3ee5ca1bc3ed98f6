//! The fuzzer calls the target `lens_http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("lens_http", bytes));
