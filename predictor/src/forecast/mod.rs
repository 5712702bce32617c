//! Forecasting as pure functions of numbers: no topics, no clock, no partitions.
//!
//! | file | owns |
//! |---|---|
//! | `calendar.rs` | local time: dates, days, holidays, five minutes |
//! | `profile.rs` | what speed is usual at a time of week |
//! | `packed.rs` | the same in little memory |
//! | `snapshot.rs` | what is known of a segment at a window's end |
//! | `network.rs` | which segments tell something about which |
//! | `features.rs` | snapshots as rows of numbers |
//! | `boosting/` | sums of regression trees |
//! | `perceptron/` | a small neural network |
//! | `model.rs` | a fitted model, and what it makes of rows |
//! | `artifact.rs` | a model as bytes |
//! | `series.rs` | speeds over time, gone through window by window |
//! | `fit.rs` | fitting a model to a series |
//! | `linear.rs` | the baseline: linear regression, fitted to a series |
//! | `metrics.rs` | how good forecasts were |
//! | `regression.rs` | the fallback: robust linear regression, learnt row by row |
//! | `residuals.rs` | the distribution of forecast errors |
//! | `volume.rs` | how many vehicles are usual, and how many will come |

pub mod artifact;
pub mod boosting;
pub mod calendar;
pub mod features;
pub mod fit;
pub mod linear;
pub mod metrics;
pub mod model;
pub mod network;
pub mod packed;
pub mod perceptron;
pub mod profile;
pub mod regression;
pub mod residuals;
pub mod series;
pub mod snapshot;
pub mod volume;

/// Length of a window, ms; forecasts go in steps of it.
pub const STEP_MS: i64 = 300_000;
/// Length of a window, minutes.
pub const STEP_MIN: u32 = 5;
