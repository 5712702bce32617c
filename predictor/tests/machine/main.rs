//! The machine as a whole, on a log made of vectors.

mod challenger;
mod cluster;
mod exactly_once;
mod real_week;
