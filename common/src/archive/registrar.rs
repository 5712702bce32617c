//! Makes the hours of an accepted table known to a Hive metastore, beside the sink, on a thread of its own.
//!
//! The sink only says which hours it has committed, and never waits. What the metastore has missed, for whatever reason,
//! comes from a *look*: its partitions are compared with the store's hours. There is one at the start, when partitions
//! are taken over, after retention, and after any failure; so nothing needs to be remembered while the metastore is away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use super::compaction::newest;
use super::dataset::Dataset;
use super::layout::{Compactions, Hour, Table};
use super::sink::Sink;
use super::{ArchiveError, manifest::DataFile};
use crate::hive::{Catalogue, HiveError, HiveTable, Metastore};
use crate::store::Store;

const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the hours of the last commits may take at shutdown; the next start finds what is left.
const GRACE: Duration = Duration::from_secs(5);
/// Hours that are waiting. More are left to a look.
const MOST_WAITING: usize = 10_000;

/// What the sink tells it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Notices {
    table: Table,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    news: Notify,
    stop: AtomicBool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    /// Compare the metastore with the store; covers whatever was committed before.
    look: bool,
    hours: BTreeSet<Hour>,
}

impl Work {
    fn is_empty(&self) -> bool {
        !self.look && self.hours.is_empty()
    }

    fn look(&mut self) {
        self.look = true;
        self.hours.clear();
    }

    fn add(&mut self, hours: impl Iterator<Item = Hour>) {
        if self.look {
            return;
        }
        self.hours.extend(hours);
        if self.hours.len() > MOST_WAITING {
            self.look();
        }
    }
}

impl Notices {
    /// These files have been committed.
    pub(super) fn committed(&self, files: &[DataFile]) {
        let dir = format!("{}/date=", self.table.dir());
        let own = files.iter().filter(|file| file.path.starts_with(&dir));
        self.change(|work| work.add(own.filter_map(|file| Hour::of_path(&file.path))));
    }

    /// There may be hours that it was not told of, or hours may be gone.
    pub(super) fn look(&self) {
        self.change(Work::look);
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        change(&mut self.shared.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.news.notify_one();
    }

    fn take(&self) -> Work {
        std::mem::take(&mut *self.shared.work.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The thread that registers; ends when this is dropped.
#[derive(Debug)]
pub(super) struct Registrar {
    notices: Notices,
    running: Option<JoinHandle<()>>,
}

impl Registrar {
    /// Begins with a look.
    pub(super) fn start(sink: &Sink, catalogue: &Catalogue) -> Self {
        let notices = Notices { table: Table::Accepted(sink.dataset), shared: Arc::default() };
        notices.look();
        let register = Register::of(catalogue, &sink.store, sink.dataset, &sink.topic);
        let worker = Worker { register, notices: notices.clone() };
        let runtime = sink.runtime.clone();
        let work = move || runtime.block_on(worker.run());
        let running = match std::thread::Builder::new().name("registrar".to_owned()).spawn(work) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread to register {} in Hive with: {error}", sink.topic);
                None
            }
        };
        Self { notices, running }
    }

    pub(super) fn notices(&self) -> Notices {
        self.notices.clone()
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.notices.shared.stop.store(true, Ordering::Relaxed);
        self.notices.shared.news.notify_one();
        if let Some(running) = self.running.take() {
            // A panic in it has been reported by the panic hook.
            let _ = running.join();
        }
    }
}

struct Connection {
    metastore: Metastore,
    /// The table is there and fits: this was seen over this connection.
    has_table: bool,
}

struct Worker {
    register: Register,
    notices: Notices,
}

/// A table, and the hours that belong into it.
struct Register {
    catalogue: Catalogue,
    table: HiveTable,
    dataset: Dataset,
    store: Store,
    topic: String,
}

/// Makes a topic's hours known to the metastore, and drops those that retention has emptied, once and now.
///
/// # Errors
/// `Retry` where metastore or store do not answer within 30 s; `Refused` where the table is another one.
pub async fn register_hours(
    catalogue: &Catalogue,
    store: &Store,
    dataset: Dataset,
    topic: &str,
) -> Result<(), HiveError> {
    let work = async {
        let metastore = Metastore::connect(catalogue).await?;
        let mut connection = Connection { metastore, has_table: false };
        Register::of(catalogue, store, dataset, topic).compare(&mut connection).await
    };
    let limit = Duration::from_secs(30);
    let timed_out = |_| HiveError::Retry(format!("not done within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.map_err(timed_out)?
}

impl Worker {
    async fn run(self) {
        tokio::select! {
            () = self.serve() => {}
            () = self.stopped() => {}
        }
    }

    /// Does what there is to do; returns once it is done and nothing more will come.
    async fn serve(&self) {
        let mut connection = None;
        let mut failures = 0;
        loop {
            let work = self.notices.take();
            if work.is_empty() {
                if self.is_stopping() {
                    return;
                }
                self.notices.shared.news.notified().await;
                continue;
            }
            match self.register(&mut connection, work).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    connection = None;
                    self.notices.look();
                    let pause = self.failed(&error, failures);
                    failures += 1;
                    if self.is_stopping() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.notices.shared.stop.load(Ordering::Relaxed)
    }

    /// Returns a while after it was told to stop, whatever is still to do.
    async fn stopped(&self) {
        while !self.is_stopping() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(GRACE).await;
    }

    async fn register(&self, connection: &mut Option<Connection>, work: Work) -> Result<(), HiveError> {
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let metastore = Metastore::connect(&self.register.catalogue).await?;
                connection.insert(Connection { metastore, has_table: false })
            }
        };
        if work.look || !connection.has_table {
            return self.register.compare(connection).await;
        }
        self.register.add(&connection.metastore, &work.hours.into_iter().collect::<Vec<_>>()).await
    }

    /// Says so, and returns how long to wait.
    fn failed(&self, error: &HiveError, failures: u32) -> Duration {
        metrics::counter!("traffic_hive_failures_total", "topic" => self.register.topic.clone()).increment(1);
        let (pause, remedy) = match error {
            HiveError::Retry(_) => (
                LONGEST_PAUSE.min(SHORTEST_PAUSE * 2_u32.pow(failures.min(10))),
                "is the metastore at hive.metastore up, and does it serve Thrift without SASL or TLS?",
            ),
            HiveError::Refused(_) => (LONGEST_PAUSE, "until then its hours are not registered"),
        };
        tracing::warn!(
            topic = self.register.topic,
            %error,
            pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            "Hive metastore, {}.{}: {error}; {remedy} The archive goes on; trying again",
            self.register.catalogue.database,
            self.register.table.name
        );
        pause
    }
}

impl Register {
    fn of(catalogue: &Catalogue, store: &Store, dataset: Dataset, topic: &str) -> Self {
        Self {
            catalogue: catalogue.clone(),
            table: HiveTable::of(dataset, &catalogue.store),
            dataset,
            store: store.clone(),
            topic: topic.to_owned(),
        }
    }

    async fn add(&self, metastore: &Metastore, hours: &[Hour]) -> Result<(), HiveError> {
        metastore.add(&self.table, hours).await?;
        metrics::counter!("traffic_hive_partitions_total", "topic" => self.topic.clone()).increment(hours.len() as u64);
        Ok(())
    }

    /// Adds the store's hours that the metastore lacks; drops those that retention has emptied.
    async fn compare(&self, connection: &mut Connection) -> Result<(), HiveError> {
        let there = self.hours().await?;
        let metastore = &connection.metastore;
        // The metastore makes a table's directory where there is none, as a user of its own, and we might not be let in. So
        // without an hour no table is made; but one that is there may have hours that retention has emptied, even all.
        if !there.is_empty() {
            metastore.ensure(&self.table).await?;
        } else if !metastore.find(&self.table).await? {
            return Ok(());
        }
        connection.has_table = true;
        let known: BTreeSet<Hour> =
            metastore.partitions(&self.table).await?.iter().filter_map(|name| hour_of(name)).collect();
        let missing: Vec<Hour> = there.difference(&known).copied().collect();
        self.add(metastore, &missing).await?;
        // While files are exchanged an hour may seem empty; those that retention has passed are not touched any more.
        let retired_ms = self.retired_ms().await?;
        let gone: Vec<Hour> = known.difference(&there).copied().filter(|hour| hour.end_ms() <= retired_ms).collect();
        for hour in &gone {
            metastore.drop_hour(&self.table, *hour).await?;
        }
        if missing.len() + gone.len() > 0 {
            let (database, table) = (&self.catalogue.database, self.table.name);
            tracing::info!(
                topic = self.topic,
                added = missing.len(),
                dropped = gone.len(),
                "{database}.{table} in the Hive metastore: {} hours that it lacked were added, {} that are gone dropped",
                missing.len(),
                gone.len()
            );
        }
        Ok(())
    }

    /// The hours that have files.
    async fn hours(&self) -> Result<BTreeSet<Hour>, HiveError> {
        let mut hours = BTreeSet::new();
        let days = self.store.list(&Table::Accepted(self.dataset).dir(), false).await;
        for day in days.map_err(ArchiveError::from)?.iter().filter(|day| day.name().starts_with("date=")) {
            let files = self.store.list(&day.path, true).await.map_err(ArchiveError::from)?;
            hours.extend(files.iter().filter_map(|file| Hour::of_path(&file.path)));
        }
        Ok(hours)
    }

    /// Hours that ended before have been removed, epoch ms.
    async fn retired_ms(&self) -> Result<i64, HiveError> {
        let newest = newest(&self.store, &Compactions { topic: self.topic.clone() }).await?;
        Ok(newest.map_or(0, |newest| newest.retired.before_ms))
    }
}

/// The hour of a partition's name; `None` if it is none that we gave.
fn hour_of(partition: &str) -> Option<Hour> {
    let hour = Hour::of_path(&format!("/{partition}/"))?;
    (hour.dir() == partition).then_some(hour)
}

impl From<ArchiveError> for HiveError {
    fn from(error: ArchiveError) -> Self {
        Self::Retry(format!("the store: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(of: &[i64]) -> impl Iterator<Item = Hour> {
        of.iter().map(|hour| Hour::of_ms(hour * 3_600_000))
    }

    #[test]
    fn a_look_covers_the_hours_before_it_and_memory_is_bounded() {
        let mut work = Work::default();
        assert!(work.is_empty());
        work.add(hours(&[1, 2, 2]));
        assert_eq!(work.hours.len(), 2);
        work.look();
        work.add(hours(&[3]));
        assert_eq!(work, Work { look: true, hours: BTreeSet::new() });
        let mut work = Work::default();
        work.add((0..=10_000).map(|hour| Hour::of_ms(hour * 3_600_000)));
        assert_eq!(work, Work { look: true, hours: BTreeSet::new() });
    }

    #[test]
    fn only_files_of_the_accepted_table_count() {
        let notices = Notices { table: Table::Accepted(Dataset::Events), shared: Arc::default() };
        let file = |path: &str| DataFile { temporary: String::new(), path: path.to_owned(), size_bytes: 1, rows: 1 };
        notices.committed(&[
            file("/traffic-data/raw/date=2026-09-21/hour=14/a.parquet"),
            file("/traffic-data/raw/rejected/date=2026-09-21/hour=15/a.parquet"),
        ]);
        let hours: Vec<String> = notices.take().hours.iter().map(ToString::to_string).collect();
        assert_eq!(hours, ["2026-09-21T14"]);
        assert!(notices.take().is_empty());
    }

    #[test]
    fn partitions_of_others_are_left_alone() {
        let hour = Hour::of_ms(1_790_000_000_000);
        assert_eq!(hour_of("date=2026-09-21/hour=14"), Some(hour));
        for other in ["date=2026-09-21/hour=9", "date=2026-09-21/hour=__HIVE_DEFAULT_PARTITION__", "day=1", ""] {
            assert_eq!(hour_of(other), None, "{other}");
        }
    }
}
