//! What the tests across crates stand on: real services, built workers, waiting with a deadline.

pub mod services;
pub mod wait;
pub mod worker;

pub use wait::{unique, wait_until};
pub use worker::Worker;
