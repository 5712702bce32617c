//! Ingest: the raw archive of sensor events.
//!
//! The work is `common::archive`'s; this crate is the process around it.

use std::sync::Arc;

use common::archive::Dataset;
use common::config::Config;
use common::stream::Log;
use common::worker::{Crew, Ended, Failure, Process};

/// The worker's name, and the application id unless another is set.
pub const APPLICATION: &str = "ingest";
/// Where health and metrics are served, unless another address is set.
const PORT: u16 = 9101;

/// Runs the worker until a signal, or to the end of its input.
///
/// # Errors
/// What trying again can not mend.
pub fn run(config: Config, exit_at_end: bool) -> Result<(), Failure> {
    let process = Process::start(APPLICATION, config, Some(PORT))?;
    let Some(log) = process.wait_for_log()? else { return Ok(()) };
    let mut crew = Crew::new(&process);
    enlist(&mut crew, &log, &Ended::when(exit_at_end))?;
    crew.run()
}

/// Adds the worker's parts to a process.
///
/// # Errors
/// If the store's location can not be one.
pub fn enlist(crew: &mut Crew<'_>, log: &Arc<dyn Log>, events_ended: &Ended) -> Result<(), Failure> {
    let config = &crew.process().config;
    let group = config.application_id(APPLICATION);
    crew.archive(log, Dataset::Events, group, events_ended)
}
