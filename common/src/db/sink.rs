//! A projection's sink: a member of its own consumer group that copies topics into the database.
//!
//! Whatever goes wrong that may pass (the database or the log out of reach, another owner faster) ends the session:
//! what is in memory is dropped, and the next session takes the partitions over and reads on from the offsets in the
//! database. So there is one way of recovering, used after a crash and after a lost answer alike; nothing is lost,
//! because only the log's retention removes records, and memory stays bounded, because nothing is read while the
//! database is away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::projection::{Open, Projection};
use super::session::Session;
use super::{Database, DbError, Direction, ProjectionError, check, migrate};
use crate::clock::Clock;
use crate::config::ProjectionSettings;
use crate::stream::{Log, Membership};

/// How long a call to the database may go on after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(6);
/// How long a transaction may take; its statements have limits of their own.
const TRANSACTION: Duration = Duration::from_secs(60);
/// A call that takes longer is no sign of health.
const SLOW: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What whoever runs a sink tells it and hears from it.
pub struct Control<'a> {
    /// Whether to write what is open and stop.
    pub shutdown: &'a dyn Fn() -> bool,
    /// Called when the sink becomes able to write, or unable, and why.
    pub report: &'a dyn Fn(Result<(), &str>),
    /// Stop at the end of every partition.
    pub exit_at_end: bool,
}

/// What a sink has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Rows written, corrections included.
    pub rows: u64,
    pub transactions: u64,
    /// Records that are no valid messages.
    pub refused: u64,
    /// Rows that were too old to be kept.
    pub expired: u64,
    /// Partitions of which the log had forgotten records before they became rows.
    pub gaps: u64,
    /// Sessions that had to be begun anew.
    pub retries: u64,
}

/// Copies a projection's topics into the database, until told to stop.
pub struct ProjectionSink {
    pub log: Arc<dyn Log>,
    pub database: Database,
    pub projection: Projection,
    pub settings: ProjectionSettings,
    pub clock: Arc<dyn Clock>,
    /// Runs the database's calls; the sink itself blocks a thread that is none of the runtime's.
    pub runtime: Handle,
    /// Names the consumer group.
    pub application_id: String,
    pub instance: String,
}

/// How the sink fares, over its sessions.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) summary: Summary,
    /// Failures in a row.
    failures: u32,
}

impl Health {
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
    }

    fn failed(&mut self) -> Duration {
        let pause = SHORTEST_PAUSE * 2_u32.pow(self.failures.min(16));
        self.failures += 1;
        pause.min(LONGEST_PAUSE)
    }
}

impl ProjectionSink {
    /// Projects until shutdown is asked for, or the end with [`Control::exit_at_end`]. Blocks its thread.
    ///
    /// # Errors
    /// Only what trying again cannot mend, and that is never the database.
    pub fn run(&self, control: &Control<'_>) -> Result<Summary, ProjectionError> {
        let mut health = Health::default();
        let name = self.projection.name();
        loop {
            match self.session(control, &mut health) {
                Ok(()) => return Ok(health.summary),
                Err(ProjectionError::Fatal(error)) => {
                    (control.report)(Err(&error));
                    return Err(ProjectionError::Fatal(format!("projection {name}: {error}")));
                }
                Err(ProjectionError::Retry(error)) => {
                    (control.report)(Err(&error));
                    if (control.shutdown)() {
                        tracing::warn!(projection = name, error, "projection {name}: {error}; the next start goes on");
                        return Ok(health.summary);
                    }
                    health.summary.retries += 1;
                    metrics::counter!("traffic_projection_retries_total", "projection" => name).increment(1);
                    let pause = health.failed();
                    tracing::warn!(
                        projection = name,
                        error,
                        pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "projection {name}: {error}; trying again"
                    );
                    // Ends early when told to stop.
                    let _ = self
                        .runtime
                        .block_on(async { tokio::time::timeout(pause, shutdown(control, Duration::ZERO)).await });
                    if (control.shutdown)() {
                        return Ok(health.summary);
                    }
                }
            }
        }
    }

    /// Projects until `shutdown`, or to the end of the topics once they grow no more because what writes them has
    /// `ended`.
    ///
    /// # Errors
    /// As [`ProjectionSink::run`].
    pub fn run_to_end(
        &self,
        shutdown: &dyn Fn() -> bool,
        report: &dyn Fn(Result<(), &str>),
        ended: &dyn Fn() -> bool,
    ) -> Result<(), ProjectionError> {
        if !ended() {
            self.run(&Control { shutdown: &|| shutdown() || ended(), report, exit_at_end: false })?;
        }
        if !shutdown() {
            // A session of its own: ends that were met before may be the ends no more.
            self.run(&Control { shutdown, report, exit_at_end: true })?;
        }
        Ok(())
    }

    fn session(&self, control: &Control<'_>, health: &mut Health) -> Result<(), ProjectionError> {
        let open = self.wait(control, self.open())?;
        Session::new(self, control, health, open).run()
    }

    /// Connects to a database whose tables are as they must be. A file's are made at once; on a server somebody
    /// must decide when.
    async fn open(&self) -> Result<Open<'_>, DbError> {
        let database = &self.database;
        let mut connection = database.connect().await?;
        if let Database::Sqlite(_) = database
            && check(database, &mut connection).await.is_err()
        {
            migrate(database, Direction::Up { to: None }).await?;
        }
        check(database, &mut connection).await?;
        Ok(Open { database, connection })
    }

    pub(super) fn membership(&self) -> Membership {
        Membership {
            application_id: self.application_id.clone(),
            instance: self.instance.clone(),
            inputs: self.projection.topics(),
            transactional: false,
        }
    }

    /// Blocks on calls to the database, for as long as a transaction may take, and not much longer than shutdown. One
    /// that takes long is reported meanwhile.
    pub(super) fn wait<T>(
        &self,
        control: &Control<'_>,
        work: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let failed = |what: String| Err(DbError::Unavailable(format!("the database {} {what}", self.database)));
        self.runtime.block_on(async {
            let mut work = pin!(work);
            let waiting = tokio::time::timeout(SLOW, &mut work);
            tokio::select! {
                biased;
                done = waiting => if let Ok(done) = done { return done },
                () = shutdown(control, GRACE) => return failed("took too long to wait for it at shutdown".to_owned()),
            }
            (control.report)(Err(&format!("the database {} has not answered for {} s", self.database, SLOW.as_secs())));
            tokio::select! {
                biased;
                done = work => {
                    if done.is_ok() {
                        (control.report)(Ok(()));
                    }
                    done
                }
                () = tokio::time::sleep(TRANSACTION) => failed(format!("took longer than {} s", TRANSACTION.as_secs())),
                () = shutdown(control, GRACE) => failed("took too long to wait for it at shutdown".to_owned()),
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
