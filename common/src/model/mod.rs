//! Wire types and their validation.

pub mod event;

pub use event::{Coordinates, Event, Invalid, Normaliser, SpeedUnit, Volume};
