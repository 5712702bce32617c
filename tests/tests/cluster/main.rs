//! Workers on three brokers, and what happens to clusters: processes, brokers and networks that go away and come back
//! while events are sent. What is written must equal, byte by byte, what one process writes on the embedded log of the
//! same events, and nothing twice.
//!
//! | file | faults of |
//! |---|---|
//! | `workers.rs` | the workers: scaled, killed, frozen, cut off, restarted one after the other |
//! | `brokers.rs` | the brokers, and a sender that dies in a transaction |
//! | `pauses.rs` | nothing: how long commits stand still in a restart, a takeover, a rolling restart |
//! | `flow.rs`, `watch.rs` | the flow under test; how its commits move |
//!
//! Long: `./test.sh --long`, or by hand
//! `cargo test --release --workspace --test cluster -- --ignored --nocapture --test-threads=1`.

mod brokers;
mod flow;
mod pauses;
mod watch;
mod workers;
