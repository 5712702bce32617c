//! Wire types and their validation.

pub mod aggregate;
mod dialect;
pub mod event;

pub use aggregate::{Aggregate, CongestionLevel, Position};
pub use event::{Coordinates, Event, Invalid, Normaliser, SpeedUnit, Volume};
