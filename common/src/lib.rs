//! What two or more workers need: wire types, the log and its runner, the archive, the database, the store,
//! configuration, telemetry, clock and shutdown.

pub mod archive;
pub mod clock;
pub mod config;
pub mod db;
pub mod health;
pub mod hive;
pub mod model;
pub mod shutdown;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod topics;
pub mod worker;

/// Of every program of ours. Many threads come and go in them; glibc gives each an arena of its own and keeps there what
/// they have freed. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
