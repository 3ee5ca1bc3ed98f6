//! Commands of the program for who runs the server: copies of it, what is wrong with it, and its keys.

pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod key;
