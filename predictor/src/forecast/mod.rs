//! Forecasting as pure functions of numbers: no topics, no clock, no partitions.
//!
//! | file | owns |
//! |---|---|
//! | `profile.rs` | mean speed by local time of week |
//! | `snapshot.rs` | what is known of a segment at a window's end |
//! | `features.rs` | a snapshot and its network as numbers for a model |
//! | `regression.rs` | robust linear regression, learnt row by row |
//! | `residuals.rs` | the distribution of forecast errors |

pub mod features;
pub mod profile;
pub mod regression;
pub mod residuals;
pub mod snapshot;

/// Length of a window, ms; forecasts go in steps of it.
pub const STEP_MS: i64 = 300_000;
/// Length of a window, minutes.
pub const STEP_MIN: u32 = 5;
