//! The predictor: aggregates to speed forecasts with intervals, for every segment at every window's end.
//!
//! | file | owns |
//! |---|---|
//! | `machine.rs` | [`Predictor`], the machine: partitions and digests |
//! | `partition.rs` | aggregates and markers to histories and blocks; when a frame closes; messages |
//! | `queue.rs` | what was read and waits for frames to keep up |
//! | `segment.rs` | a segment's newest windows and profile |
//! | `digest.rs` | what partitions tell each other at a window's end |
//! | `frames.rs` | a frame: score, learn, forecast |
//! | `forecast/` | the numbers: profile, features, regression, residuals |
//! | `bytes.rs` | the binary form of state entries and digests |
//! | `settings.rs` | what may be set |
//! | `worker.rs` | the process around the machine |

mod bytes;
mod digest;
pub mod forecast;
mod frames;
mod machine;
mod partition;
mod queue;
mod segment;
mod settings;
mod worker;

pub use frames::Score;
pub use machine::{DIGEST, PREDICTIONS, Predictor};
pub use settings::Settings;
pub use worker::{APPLICATION, enlist, run, topology};
