//! bz
fn main() {}
