//! bz-agent
