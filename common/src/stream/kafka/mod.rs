//! The log on Apache Kafka.
//!
//! | file | owns |
//! |---|---|
//! | `config.rs` | how to reach the cluster, what every client is told |
//! | `member.rs` | [`Member`]: a `group` and its `transactions` |
//! | `group.rs`, `queue.rs`, `probe.rs`, `signal.rs` | the consumer: assignments, batches by partition, confirmed ends |
//! | `transactions.rs`, `producer.rs` | the producers |
//! | `reader.rs` | reading a partition without a group |
//! | `admin.rs` | topics |
//! | `context.rs`, `error.rs`, `fences.rs`, `deadline.rs` | callbacks, what errors mean, bounded waiting |
//!
//! Invariants: no call blocks without a limit; nothing is reported as an end that the broker has not
//! confirmed; a session that may have lost its partitions or its transaction is given up, never mended.

mod admin;
mod config;
mod context;
mod deadline;
mod error;
mod fences;
mod group;
mod member;
mod probe;
mod producer;
mod queue;
mod reader;
mod signal;
mod transactions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use config::{Failpoint, KafkaConfig, Security};

use self::admin::Admin;
use self::config::CONSUMER;
use self::context::Reports;
use self::deadline::Deadline;
use self::error::Explain;
use self::group::Group;
use self::member::KafkaMember;
use self::producer::KafkaProducer;
use self::reader::{KafkaReader, KafkaTail, Pool};
use self::transactions::Transactions;
use super::log::{Ends, Log, LogError, Member, Membership, Producer, Reader, TopicPartition, TopicSpec};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a question to the broker may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long to wait for a transaction that is about to change an offset.
const STABLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long new topics may take to be known everywhere.
const PROPAGATION: Duration = Duration::from_secs(10);

/// A Kafka cluster.
pub struct KafkaLog {
    config: KafkaConfig,
    explain: Explain,
    /// Answers with last stable offsets.
    committed: BaseConsumer<Reports>,
    /// Answers with high watermarks.
    uncommitted: BaseConsumer<Reports>,
    /// Answer with committed offsets, by group.
    groups: Mutex<BTreeMap<String, Arc<BaseConsumer<Reports>>>>,
    readers: Pool,
}

impl KafkaLog {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// `Fatal` for settings that cannot be right, `Retry` if no broker answers within 8 s.
    pub fn connect(config: &KafkaConfig) -> Result<Self, LogError> {
        config.validate()?;
        let explain = Explain { servers: config.bootstrap_servers.clone(), member: String::new() };
        let committed = observer(config, &explain, &[("isolation.level", "read_committed")])?;
        let uncommitted = observer(config, &explain, &[("isolation.level", "read_uncommitted")])?;
        let (groups, readers) = (Mutex::default(), Pool::default());
        let log = Self { config: config.clone(), explain, committed, uncommitted, groups, readers };
        if log.committed.client().fetch_cluster_id(CONNECT_TIMEOUT).is_none() {
            drain(&log.committed);
            return Err(log.explain.too_late("connecting", CONNECT_TIMEOUT, log.committed.context()));
        }
        Ok(log)
    }

    fn error(&self, doing: &str, error: &KafkaError, client: &BaseConsumer<Reports>) -> LogError {
        drain(client);
        self.explain.error(doing, error, client.context())
    }

    /// A client that knows a group's offsets, without being a member.
    fn group(&self, group: &str) -> Result<Arc<BaseConsumer<Reports>>, LogError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = groups.get(group) {
            return Ok(Arc::clone(client));
        }
        // read_committed makes librdkafka ask for stable offsets only.
        let role = [("group.id", group), ("isolation.level", "read_committed")];
        let client = Arc::new(observer(&self.config, &self.explain, &role)?);
        groups.insert(group.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    fn watermarks(&self, at: &TopicPartition, client: &BaseConsumer<Reports>) -> Result<(i64, i64), LogError> {
        drain(client);
        client
            .fetch_watermarks(&at.topic, at.partition.cast_signed(), QUERY_TIMEOUT)
            .map_err(|error| self.error(&format!("asking for the ends of {at}"), &error, client))
    }

    /// The number of partitions that a membership's inputs share.
    fn shared_partitions(&self, membership: &Membership) -> Result<u32, LogError> {
        let mut shared: Option<(&str, u32)> = None;
        for topic in &membership.inputs {
            let Some(partitions) = self.partitions(topic)? else {
                return Err(LogError::Retry(format!(
                    "Kafka at {} has no topic {topic}, which {} reads; create it with `traffic init`",
                    self.explain.servers, membership.application_id
                )));
            };
            match shared {
                Some((first, expected)) if expected != partitions => {
                    return Err(LogError::Fatal(format!(
                        "topics read together need equal partition counts: {first} has {expected}, {topic} has {partitions}"
                    )));
                }
                _ => shared = Some((topic, partitions)),
            }
        }
        Ok(shared.map_or(0, |(_, partitions)| partitions))
    }

    /// Waits until a topic that exists is known to the broker that we ask.
    fn await_partitions(&self, topic: &str) -> Result<u32, LogError> {
        let deadline = Deadline::after(PROPAGATION);
        loop {
            if let Some(partitions) = self.partitions(topic)? {
                return Ok(partitions);
            }
            if deadline.has_passed() {
                return Err(LogError::Retry(format!("topic {topic} was created, but no broker knows it yet")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A consumer without a group, for questions.
fn observer(config: &KafkaConfig, explain: &Explain, role: &[(&str, &str)]) -> Result<BaseConsumer<Reports>, LogError> {
    let reports = Reports::default();
    let settings = config.client(&[&CONSUMER[..], role].concat());
    let consumer = settings.create_with_context(reports.clone());
    consumer.map_err(|error| explain.error("creating a client", &error, &reports))
}

/// Serves log lines and complaints, which nobody else does for these clients.
fn drain(client: &BaseConsumer<Reports>) {
    loop {
        let served = client.context().served();
        let event = client.poll(Duration::ZERO);
        if event.is_none() && client.context().served() == served {
            return;
        }
    }
}

impl Log for KafkaLog {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        let admin = Admin::new(&self.config, self.explain.clone())?;
        for spec in topics {
            let missing = self.partitions(&spec.name)?.is_none();
            let created = missing && admin.create(spec)?;
            let partitions = self.await_partitions(&spec.name)?;
            if partitions != spec.partitions {
                return Err(LogError::Fatal(format!(
                    "topic {} has {partitions} partitions, but {} are needed; use another topic or change the setting",
                    spec.name, spec.partitions
                )));
            }
            if !created {
                admin.verify_cleanup(spec)?;
            }
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        drain(&self.committed);
        let doing = || format!("asking for the partitions of {topic}");
        let metadata = self.committed.fetch_metadata(Some(topic), QUERY_TIMEOUT);
        let metadata = metadata.map_err(|error| self.error(&doing(), &error, &self.committed))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(u32::try_from(found.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(self.error(&doing(), &KafkaError::MetadataFetch(code), &self.committed)),
        }
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        // In this order, so that stable ≤ high whatever happens between.
        let (first, stable) = self.watermarks(at, &self.committed)?;
        let (_, high) = self.watermarks(at, &self.uncommitted)?;
        Ok(Ends { first, high, stable })
    }

    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        if at.is_empty() {
            return Ok(Vec::new());
        }
        let group = &format!("{}{group}", self.config.prefix);
        let client = self.group(group)?;
        drain(&client);
        let doing = format!("asking for the committed offsets of group {group}");
        let mut list = TopicPartitionList::with_capacity(at.len());
        for at in at {
            list.add_partition(&at.topic, at.partition.cast_signed());
        }
        // librdkafka asks again by itself while they are unstable, so that looks like silence.
        let answer = client.committed_offsets(list, STABLE_PATIENCE).and_then(|list| offsets(&list, at));
        answer.map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::UnstableOffsetCommit)
                if self.partitions(&at[0].topic).is_ok() =>
            {
                LogError::Retry(format!(
                    "Kafka at {}, {doing}: not stable within {} s: the last owner's transaction is still undecided, or the group's coordinator away",
                    self.explain.servers,
                    STABLE_PATIENCE.as_secs()
                ))
            }
            _ => self.error(&doing, &error, &client),
        })
    }

    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(KafkaReader::new(&self.config, self.explain.clone(), &self.readers, at, from)?))
    }

    fn tail(&self, at: &TopicPartition) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(KafkaTail::new(&self.config, self.explain.clone(), at)?))
    }

    fn join(&self, membership: &Membership) -> Result<Box<dyn Member>, LogError> {
        let application_id = format!("{}{}", self.config.prefix, membership.application_id);
        let membership = &Membership { application_id, ..membership.clone() };
        let partitions = self.shared_partitions(membership)?;
        let name = format!("{}-{}", membership.application_id, membership.instance);
        let explain = self.explain.of(&name);
        // The producer first: it ends a predecessor's transaction, which makes the offsets stable.
        let transactions = if membership.transactional {
            Some(Transactions::begin_session(&self.config, explain.clone(), name)?)
        } else {
            None
        };
        let group = if membership.inputs.is_empty() {
            None
        } else {
            Some(Group::join(&self.config, explain, membership, partitions)?)
        };
        Ok(Box::new(KafkaMember { group, transactions }))
    }

    fn producer(&self) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(KafkaProducer::new(&self.config, self.explain.clone())?))
    }
}

/// The answered offsets in the order of the question.
fn offsets(list: &TopicPartitionList, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, KafkaError> {
    let answer = |at: &TopicPartition| {
        let Some(element) = list.find_partition(&at.topic, at.partition.cast_signed()) else { return Ok(None) };
        element.error()?;
        Ok(match element.offset() {
            rdkafka::Offset::Offset(next) => Some(next),
            _ => None,
        })
    };
    at.iter().map(answer).collect()
}
