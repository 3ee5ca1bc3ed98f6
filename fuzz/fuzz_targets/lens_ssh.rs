//! The fuzzer calls the target `lens_ssh`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("lens_ssh", bytes));
