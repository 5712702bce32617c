//! The predictor: aggregates to speed forecasts with intervals, for every segment at every window's end.
//!
//! | file | owns |
//! |---|---|
//! | `machine.rs` | [`Predictor`], the machine: partitions and digests |
//! | `partition.rs` | aggregates and markers to histories and blocks; when a frame closes; messages |
//! | `queue.rs` | what was read and waits for frames to keep up |
//! | `segment.rs` | a segment's newest windows and profile |
//! | `digest.rs` | what partitions tell each other at a window's end |
//! | `frames.rs`, `frames/state.rs` | a frame: score, learn, forecast; and its state |
//! | `evaluate.rs` | what a model's forecasts are worth |
//! | `forecast/` | the numbers: profile, features, model, intervals |
//! | `registry/` | which models there are, and which is current |
//! | `models.rs` | the registry's current model, at work |
//! | `trainer.rs` | training against the registry |
//! | `train.rs` | a challenger against the champion |
//! | `history.rs` | the archive's aggregates to train on |
//! | `live.rs` | the model at work |
//! | `bytes.rs` | the binary form of state entries and digests |
//! | `settings.rs` | what may be set |
//! | `worker.rs` | the process around the machine |

mod bytes;
mod digest;
pub mod evaluate;
pub mod forecast;
mod frames;
pub mod history;
mod live;
mod machine;
mod models;
mod partition;
mod queue;
pub mod registry;
mod segment;
mod settings;
pub mod train;
pub mod trainer;
mod worker;

pub use frames::Score;
pub use live::{Live, Slot};
pub use machine::{DIGEST, PREDICTIONS, Predictor};
pub use settings::Settings;
pub use worker::{APPLICATION, enlist, run, topology};
