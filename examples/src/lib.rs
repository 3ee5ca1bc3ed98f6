//! What the runnable examples and the end-to-end tests share.
//!
//! Nothing of the product is here: this crate stands above all others, and no other crate may use it.

pub mod needs;
