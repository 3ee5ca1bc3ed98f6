//! The fuzzer calls the target `entry_quic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bz_fuzz::run("entry_quic", bytes));
