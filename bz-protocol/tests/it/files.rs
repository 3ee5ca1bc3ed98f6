//! Copies between two ends in one process, on real file systems.

mod cut;
mod full;
mod hostile;
mod stage;
mod tree;
