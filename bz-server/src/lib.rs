//! bz-server
