//! Wire types and their validation.
//!
//! | file | owns |
//! |---|---|
//! | `event.rs` | [`Event`], its ranges, [`Normaliser`] |
//! | `canonical.rs` | the fast path for the canonical form |
//! | `dialect.rs`, `fields.rs`, `time.rs` | the general path: every dialect, and every rejection |
//! | `aggregate.rs` | [`Aggregate`] and [`CongestionLevel`] |

pub mod aggregate;
mod canonical;
mod dialect;
pub mod event;
mod fields;
mod time;

pub use aggregate::{Aggregate, CongestionLevel, Position};
pub use event::{Coordinates, Event, Invalid, Normaliser, SpeedUnit, Volume};
