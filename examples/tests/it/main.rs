//! The tests that look at the whole: the repository itself, and (as they come) all parts together.

// `cfg(test)` tells clippy that the functions below the tests are test code too.
#[cfg(test)]
mod tidy;
