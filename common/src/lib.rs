//! What two or more workers need: wire types, the log and its runner, the archive, the store,
//! configuration, telemetry, clock and shutdown.

pub mod archive;
pub mod clock;
pub mod model;
pub mod store;
pub mod stream;
pub mod topics;
