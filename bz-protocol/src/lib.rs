//! bz-protocol
