//! bz-client
