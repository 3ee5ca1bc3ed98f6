//! The fuzzer calls the target `messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("messages", bytes));
