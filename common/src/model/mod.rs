//! Wire types and their validation.
//!
//! | file | owns |
//! |---|---|
//! | `event.rs` | [`Event`], its ranges, [`Normaliser`] |
//! | `canonical.rs` | the fast path for the canonical form |
//! | `dialect.rs`, `fields.rs`, `time.rs` | the general path: every dialect, and every rejection |
//! | `properties.rs` | what holds for every payload, for tests and the fuzzer in `fuzz/` |
//! | `aggregate.rs` | [`Aggregate`] and [`CongestionLevel`] |
//! | `prediction.rs` | [`Prediction`] |
//! | `alert.rs` | [`Alert`] |
//! | `command.rs` | [`AlerterCommand`] |

pub mod aggregate;
pub mod alert;
mod canonical;
pub mod command;
mod dialect;
pub mod event;
mod fields;
pub mod prediction;
#[cfg(test)]
mod properties;
mod time;

pub use aggregate::{Aggregate, CongestionLevel, Position};
pub use alert::{Alert, AlertStatus, AlertType, DetectionSource, Severity};
pub use command::{AlerterCommand, CommandError, CommandKind};
pub use event::{Coordinates, Event, Invalid, Normaliser, SpeedUnit, Volume};
pub use prediction::{Feature, HistoricalContext, ModelType, Prediction, QUANTILES, UncertaintyBounds};
