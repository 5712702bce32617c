//! What the tests across crates stand on: the simulator, the contract of the logs, real services, a cluster of three
//! brokers, an HDFS of three datanodes, one with Kerberos, a network that can be cut, built workers, messages, models,
//! waiting with a deadline.

pub mod archive;
pub mod cluster;
pub mod database;
pub mod datanodes;
pub mod flow;
pub mod hdfs;
pub mod kerberos;
pub mod log_contract;
pub mod messages;
pub mod metastore;
pub mod models;
pub mod network;
pub mod services;
pub mod simulator;
pub mod wait;
pub mod worker;

pub use wait::{StopOnDrop, unique, wait_until};
pub use worker::{Worker, built};
