//! Ingest: the raw archive of sensor events.
//!
//! The work is `common::archive`'s; this crate is the process around it.

use common::archive::{ArchiveConfig, Control, Sink};
use common::config::Config;
use common::worker::{Failure, Process};

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
    let (reachable, archiving) = (process.health.component("log"), process.health.component("archive"));
    let Some(log) = process.wait_for_log(&reachable)? else { return Ok(()) };
    reachable.ready();
    let config = &process.config;
    let sink = Sink {
        log,
        store: process.store().map_err(|e| Failure(e.to_string()))?,
        config: archive(config),
        normaliser: config.normaliser(),
        clock: process.clock.clone(),
        runtime: process.runtime().clone(),
        batch_id: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
        topic: config.topics.names().events,
        application_id: config.application_id(APPLICATION).to_owned(),
        instance: config.instance.clone(),
    };
    let readiness = |ready: bool| {
        if ready {
            archiving.ready();
        } else {
            archiving.not_ready("the log or the store does not answer, or partitions are being taken over");
        }
    };
    let control = Control { shutdown: &|| process.shutdown.requested(), ready: &readiness, exit_at_end };
    let summary = sink.run(&control).map_err(|e| Failure(e.to_string()))?;
    tracing::info!(?summary, "stopped");
    Ok(())
}

/// The archive's settings, as configured.
#[must_use]
pub fn archive(config: &Config) -> ArchiveConfig {
    ArchiveConfig {
        flush_interval_s: config.archive.flush_age.as_secs(),
        file_bytes: config.archive.flush_bytes,
        memory_bytes: config.archive.memory_bytes,
        ..ArchiveConfig::default()
    }
}
