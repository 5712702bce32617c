//! The aggregator: sensor events to 5-minute aggregates per segment.
//!
//! | file | owns |
//! |---|---|
//! | `machine.rs` | [`Aggregator`], the machine: one [`partition::Partition`] per assigned partition |
//! | `partition.rs` | what happens to a record: refuse, forward, count |
//! | `window.rs` | a window's accumulators and the events it has seen |
//! | `progress.rs` | watermark, horizon, and what partitions tell each other |
//! | `recount.rs` | the same windows over events that are all there already, for backfills |
//! | `codec.rs` | changelog entries |
//! | `settings.rs` | what may be set |
//! | `worker.rs` | the process around the machine |

mod codec;
mod machine;
mod partition;
mod progress;
mod recount;
mod settings;
mod window;
mod worker;

pub use codec::{Count, Totals, decode_count, decode_totals};
pub use machine::{AGGREGATES, Aggregator, DEAD_LETTERS, EVENTS, REKEYED, REKEYED_INPUT};
pub use recount::Recount;
pub use settings::Settings;
pub use worker::{APPLICATION, enlist, run, topology};
