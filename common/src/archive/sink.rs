//! The archive's sink: a member of its own consumer group that copies a topic into the store.
//!
//! Whatever goes wrong that may pass (the store or the log out of reach, another owner faster) ends the
//! session: what was open is dropped, and the next session takes the partitions over and reads on from where
//! the manifests end. So there is one way of recovering, used after a crash and after a lost answer alike;
//! nothing is lost, because only the log's retention removes records, and memory stays bounded, because a
//! partition is not read before its store answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::dataset::Dataset;
use super::registrar::{Notices, Registrar};
use super::schedule::Schedule;
use super::session::Session;
use super::{ArchiveConfig, ArchiveError};
use crate::clock::Clock;
use crate::hive::Catalogue;
use crate::model::Normaliser;
use crate::store::Store;
use crate::stream::{Log, Membership};

/// How long a call to the store may go on after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(100);

/// What whoever runs a sink tells it and hears from it.
pub struct Control<'a> {
    /// Whether to flush, commit and stop.
    pub shutdown: &'a dyn Fn() -> bool,
    /// Called when the sink becomes able or unable to archive.
    pub ready: &'a dyn Fn(bool),
    /// Stop at the end of every partition.
    pub exit_at_end: bool,
}

/// What a sink has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Rows committed to files, rejected ones included.
    pub rows: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub manifests: u64,
    /// Ranges that the log had forgotten.
    pub gaps: u64,
    /// Sessions that had to be begun anew.
    pub retries: u64,
}

/// Copies one topic into the store, until told to stop.
pub struct Sink {
    pub log: Arc<dyn Log>,
    pub store: Store,
    pub config: ArchiveConfig,
    pub dataset: Dataset,
    /// How events are read.
    pub normaliser: Normaliser,
    pub clock: Arc<dyn Clock>,
    /// Runs the store's calls; the sink itself blocks a thread that is none of the runtime's.
    pub runtime: Handle,
    /// A UUID for each batch.
    pub batch_id: Box<dyn Fn() -> String + Send>,
    /// The dataset's topic in this deployment.
    pub topic: String,
    /// Names the consumer group.
    pub application_id: String,
    pub instance: String,
    /// Where the hours are registered, if anywhere.
    pub hive: Option<Catalogue>,
}

/// How the sink fares, over its sessions.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) summary: Summary,
    /// Failures in a row.
    failures: u32,
    /// The last flush failed: reading the store is no proof of health, a flush is.
    pub(super) flush_failed: bool,
    pub(super) schedule: Schedule,
    registrar: Option<Registrar>,
}

impl Health {
    /// Something failed that may pass; returns how long to wait.
    pub(super) fn failed(&mut self, config: &ArchiveConfig) -> Duration {
        let pause = Duration::from_millis(config.retry_min_ms) * 2_u32.pow(self.failures.min(16));
        self.failures += 1;
        pause.min(Duration::from_secs(config.retry_max_s))
    }

    /// Whom to tell of new hours.
    pub(super) fn registrar(&self) -> Option<Notices> {
        self.registrar.as_ref().map(Registrar::notices)
    }

    pub(super) fn recovered(&mut self) {
        self.failures = 0;
    }
}

impl Sink {
    /// Archives until shutdown is asked for, or the end with [`Control::exit_at_end`]. Blocks its thread.
    ///
    /// # Errors
    /// Only what trying again cannot mend.
    pub fn run(&self, control: &Control<'_>) -> Result<Summary, ArchiveError> {
        let registrar = self.hive.as_ref().map(|catalogue| Registrar::start(self, catalogue));
        let mut health = Health { registrar, ..Health::default() };
        (control.ready)(false);
        loop {
            match Session::new(self, control, &mut health).run() {
                Ok(()) => return Ok(health.summary),
                Err(ArchiveError::Fatal(error)) => {
                    (control.ready)(false);
                    return Err(ArchiveError::Fatal(format!("archive of {}: {error}", self.topic)));
                }
                Err(ArchiveError::Retry(error)) => {
                    (control.ready)(false);
                    health.summary.retries += 1;
                    metrics::counter!("traffic_archive_retries_total", "topic" => self.topic.clone()).increment(1);
                    let pause = health.failed(&self.config);
                    tracing::warn!(
                        topic = self.topic,
                        error,
                        pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "archive of {}: {error}; trying again",
                        self.topic
                    );
                    if !self.pause(pause, control) {
                        return Ok(health.summary);
                    }
                }
            }
        }
    }

    /// Archives until `shutdown`, or to the end of the topic once it grows no more because what writes it has `ended`.
    ///
    /// # Errors
    /// As [`Sink::run`].
    pub fn run_to_end(
        &self,
        shutdown: &dyn Fn() -> bool,
        ready: &dyn Fn(bool),
        ended: &dyn Fn() -> bool,
    ) -> Result<(), ArchiveError> {
        if !ended() {
            self.run(&Control { shutdown: &|| shutdown() || ended(), ready, exit_at_end: false })?;
        }
        if !shutdown() {
            // A session of its own: ends that were met before may be the ends no more.
            self.run(&Control { shutdown, ready, exit_at_end: true })?;
        }
        Ok(())
    }

    pub(super) fn membership(&self) -> Membership {
        Membership {
            application_id: self.application_id.clone(),
            instance: self.instance.clone(),
            inputs: vec![self.topic.clone()],
            transactional: false,
        }
    }

    /// Waits; `false` when shutdown was asked for meanwhile.
    fn pause(&self, pause: Duration, control: &Control<'_>) -> bool {
        self.runtime.block_on(async { tokio::time::timeout(pause, shutdown(control, Duration::ZERO)).await.is_err() })
    }

    /// Blocks on calls to the store, for as long as a commit may take, and not much longer than shutdown.
    pub(super) fn wait<T>(
        &self,
        control: &Control<'_>,
        work: impl Future<Output = Result<T, ArchiveError>>,
    ) -> Result<T, ArchiveError> {
        let limit = Duration::from_secs(self.config.commit_timeout_s);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = work => done,
                () = tokio::time::sleep(limit) => Err(ArchiveError::Retry(format!(
                    "the store took longer than {} s (archive.commit_timeout_s)", limit.as_secs()
                ))),
                () = shutdown(control, GRACE) => Err(ArchiveError::Retry(
                    "the store took too long to wait for it at shutdown".to_owned()
                )),
            }
        })
    }
}

/// Returns once shutdown has been asked for `grace` ago.
async fn shutdown(control: &Control<'_>, grace: Duration) {
    while !(control.shutdown)() {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(grace).await;
}
