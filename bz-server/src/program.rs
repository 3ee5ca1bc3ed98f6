//! Commands of the program for who runs the server: copies of it, what is wrong with it, its keys, and its manual.

pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod key;
pub(crate) mod man;
