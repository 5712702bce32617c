//! What the tests of the whole share.

pub mod log_contract;
pub mod simulator;
