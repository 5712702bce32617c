//! What the tests across crates stand on: the simulator, the contract of the logs, real services, built
//! workers, waiting with a deadline.

pub mod archive;
pub mod database;
pub mod flow;
pub mod log_contract;
pub mod services;
pub mod simulator;
pub mod wait;
pub mod worker;

pub use wait::{unique, wait_until};
pub use worker::Worker;
