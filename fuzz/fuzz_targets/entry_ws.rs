//! The fuzzer calls the target `entry_ws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("entry_ws", bytes));
