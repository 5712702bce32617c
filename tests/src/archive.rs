//! An archive under test: a log in memory, sinks, and the proof that nothing is lost or doubled.

use std::sync::Arc;

use common::archive::verify::{Report, verify};
use common::archive::{ArchiveConfig, Control, Dataset, Sink, Summary};
use common::clock::{Clock as _, SystemClock};
use common::hive::Catalogue;
use common::model::Normaliser;
use common::store::{Store, StoreOptions, open};
use common::stream::memory::MemoryLog;
use common::stream::{Cleanup, Log as _, Outgoing, TopicSpec};
use tokio::runtime::Runtime;

/// A topic of its own in a log of its own, and a store.
pub struct Archive {
    pub log: MemoryLog,
    pub topic: String,
    pub runtime: Runtime,
    pub store: Store,
    pub config: ArchiveConfig,
    pub dataset: Dataset,
    /// Where the hours are registered, if anywhere.
    pub hive: Option<Catalogue>,
    partitions: u32,
}

impl Archive {
    /// # Panics
    /// If the URL is none of a store.
    #[must_use]
    pub fn new(name: &str, url: &str, options: &StoreOptions, partitions: u32) -> Self {
        let log = MemoryLog::new(Arc::new(SystemClock));
        let topic = crate::unique(name);
        let cleanup = Cleanup::Delete { retention_ms: None };
        let spec = TopicSpec { name: topic.clone(), partitions, replication: 1, cleanup };
        log.ensure_topics(&[spec]).expect("the topic is made");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = runtime.block_on(async { open(url, options) }).expect("the URL is sound");
        let config = ArchiveConfig { retry_min_ms: 100, retry_max_s: 1, ..ArchiveConfig::default() };
        Self { log, topic, runtime, store, config, dataset: Dataset::Events, hive: None, partitions }
    }

    /// Writes events `numbers`, six seconds apart from sixteen hours ago, every tenth of them no event.
    ///
    /// # Panics
    /// If the log refuses them.
    pub fn produce(&self, numbers: std::ops::Range<i64>) {
        let start_ms = SystemClock.now_ms() - 16 * 3_600_000;
        let mut producer = self.log.producer().expect("a producer");
        for number in numbers {
            let segment = format!("S{}", number % 50);
            let timestamp = start_ms + number * 6_000;
            let value = if number % 10 == 3 {
                format!("no event {number}")
            } else {
                format!(
                    r#"{{"event_id":"E{number}","segment_id":"{segment}","timestamp":{timestamp},"speed":{},"coordinates":{{"latitude":34.1,"longitude":-118.2}},"source":"SENSOR","quality_score":0.9}}"#,
                    number % 97
                )
            };
            let partition = u32::try_from(number).expect("a small number") % self.partitions;
            let record = Outgoing {
                topic: &self.topic,
                partition: Some(partition),
                key: Some(segment.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            producer.send(&record).expect("the log takes it");
        }
        producer.flush().expect("the log has it");
    }

    /// Sends messages by segment, in order.
    ///
    /// # Panics
    /// If the log refuses them.
    pub fn send<'m>(&self, messages: impl IntoIterator<Item = (&'m str, Vec<u8>)>) {
        let mut producer = self.log.producer().expect("a producer");
        for (segment, message) in messages {
            let record = Outgoing {
                topic: &self.topic,
                partition: None,
                key: Some(segment.as_bytes()),
                value: Some(&message),
                headers: &[],
            };
            producer.send(&record).expect("the log takes it");
        }
        producer.flush().expect("the log has it");
    }

    /// Runs a sink of its own consumer group on this thread.
    ///
    /// # Panics
    /// If it fails for good.
    pub fn run(&self, group: &str, control: &Control<'_>) -> Summary {
        let sink = Sink {
            log: Arc::new(self.log.clone()),
            store: self.store.clone(),
            config: self.config.clone(),
            dataset: self.dataset,
            normaliser: Normaliser::default(),
            clock: Arc::new(SystemClock),
            runtime: self.runtime.handle().clone(),
            batch_id: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
            topic: self.topic.clone(),
            application_id: group.to_owned(),
            instance: "0".to_owned(),
            hive: self.hive.clone(),
        };
        sink.run(control).expect("the sink archives")
    }

    /// Runs a sink to the end.
    pub fn run_to_end(&self, group: &str) -> Summary {
        self.run(group, &Control { shutdown: &|| false, ready: &|_| {}, exit_at_end: true })
    }

    /// Compares the archive with itself and with the log.
    ///
    /// # Panics
    /// If either cannot be read.
    pub fn report(&self) -> Report {
        let mut verification =
            self.runtime.block_on(verify(&self.store, self.dataset, &self.topic)).expect("the store is read");
        verification.compare_with(&self.log, &Normaliser::default()).expect("the log is read");
        verification.report().clone()
    }

    /// # Panics
    /// If a record is missing, doubled or strange.
    pub fn assert_holds(&self, rows: u64) {
        let report = self.report();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.partitions.iter().map(|p| p.rows).sum::<u64>(), rows);
    }
}
