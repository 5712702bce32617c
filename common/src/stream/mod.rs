//! Exactly-once stream processing: machines (pure logic), the runner that drives them, and the
//! log behind a port with three implementations.
//!
//! | file | owns |
//! |---|---|
//! | `log.rs` | the port: [`Log`], [`Member`], records, errors |
//! | `machine.rs` | [`Machine`] and its [`Outbox`] |
//! | `topology.rs`, `held.rs` | a worker's place in the flow; what is known of a partition it holds |
//! | `runner.rs`, `runner/commit.rs` | poll → machine → one transaction of outputs, state and offsets |
//! | `place.rs` | up to where in the inputs a changelog has come, and what is refused |
//! | `restore.rs` | what happens between an assignment and its first record |
//! | `partitioner.rs` | murmur2, as Java producers partition |
//! | `kafka/`, `sqlite/`, `memory/` | the three logs |

mod held;
pub mod kafka;
pub mod log;
pub mod machine;
pub mod memory;
pub mod partitioner;
mod place;
mod restore;
pub mod runner;
pub mod sqlite;
mod topology;

pub use log::{
    Cleanup, Ends, Event, Header, Log, LogError, Member, Membership, Outgoing, Producer, Reader, Record, Records,
    StoredRecord, TopicPartition, TopicSpec, WATERMARK_HEADER,
};
pub use machine::{Machine, Outbox, Tick};
pub use runner::Runner;
pub use topology::{Notice, Observer, Pace, Step, Topology};
