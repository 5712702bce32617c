//! The predictor: aggregates to speed forecasts with intervals, for every segment at every window's end.
//!
//! | file | owns |
//! |---|---|
//! | `machine.rs` | [`Predictor`], the machine: partitions and digests |
//! | `partition.rs` | aggregates and markers to histories and blocks; when a frame closes; messages |
//! | `queue.rs` | what was read and waits for frames to keep up |
//! | `segment.rs` | a segment's newest windows and profile |
//! | `digest.rs` | what partitions tell each other at a window's end |
//! | `frames.rs`, `frames/` | a frame: score, learn, forecast; its state and scores |
//! | `evaluate.rs` | what a model's forecasts are worth |
//! | `forecast/` | the numbers: profile, features, model, intervals |
//! | `registry/` | which models there are, and which is current |
//! | `models.rs` | the registry's current model, at work |
//! | `drift.rs` | whether the model still does what it did on the days held out |
//! | `retraining.rs` | training on a schedule |
//! | `trainer.rs` | training against the registry |
//! | `train.rs` | a challenger against the champion |
//! | `history.rs` | the archive's aggregates to train on |
//! | `graph.rs` | which segment traffic flows from and to |
//! | `live.rs` | the models at work |
//! | `bytes.rs` | the binary form of state entries and digests |
//! | `settings.rs` | what may be set |
//! | `worker.rs` | the process around the machine |

mod bytes;
mod digest;
mod drift;
pub mod evaluate;
pub mod forecast;
mod frames;
pub mod graph;
pub mod history;
mod live;
mod machine;
mod models;
mod partition;
mod queue;
pub mod registry;
mod retraining;
mod segment;
mod settings;
pub mod train;
pub mod trainer;
mod worker;

pub use frames::{Duel, Score};
pub use live::{HeldOut, Live, Slot};
pub use machine::{DIGEST, PREDICTIONS, Predictor};
pub use settings::Settings;
pub use worker::{APPLICATION, enlist, run, topology};
