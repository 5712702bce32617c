//! Exactly-once stream processing: machines (pure logic), the runner that drives them, and the
//! log behind a port with three implementations.
//!
//! | file | owns |
//! |---|---|
//! | `log.rs` | the port: [`Log`], [`Member`], records, errors |
//! | `machine.rs` | [`Machine`] and its [`Outbox`] |
//! | `runner.rs` | poll → machine → one transaction of outputs, state and offsets |
//! | `restore.rs` | what happens between an assignment and its first record |
//! | `partitioner.rs` | murmur2, as Java producers partition |
//! | `kafka/`, `sqlite/`, `memory/` | the three logs |

pub mod kafka;
pub mod log;
pub mod machine;
pub mod memory;
pub mod partitioner;
mod restore;
pub mod runner;
pub mod sqlite;

pub use log::{
    Cleanup, Ends, Event, Header, Log, LogError, Member, Membership, Outgoing, Producer, Reader, Record, Records,
    StoredRecord, TopicPartition, TopicSpec, WATERMARK_HEADER,
};
pub use machine::{Machine, Outbox, Tick};
pub use runner::{Notice, Observer, Pace, Runner, Step, Topology};
