//! Commands of the program for who runs the server: backup and restore.

pub(crate) mod backup;
