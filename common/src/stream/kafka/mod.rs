//! The log on Apache Kafka.
//!
//! | file | owns |
//! |---|---|
//! | `config.rs` | how to reach the cluster, what every client is told |
//! | `member.rs` | [`Member`]: a `group` and its `transactions` |
//! | `group.rs`, `queue.rs`, `probe.rs`, `signal.rs` | the consumer: assignments, batches by partition, confirmed ends |
//! | `transactions.rs`, `producer.rs` | the producers |
//! | `reader.rs` | reading a partition without a group |
//! | `observers.rs` | clients that only ask |
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
mod observers;
mod probe;
mod producer;
mod queue;
mod reader;
mod signal;
mod transactions;

use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use config::{Failpoint, KafkaConfig, Security};

use self::admin::Admin;
use self::deadline::Deadline;
use self::error::Explain;
use self::group::Group;
use self::member::KafkaMember;
use self::observers::{Observer, Observers, Role, drain};
use self::producer::KafkaProducer;
use self::reader::{KafkaReader, KafkaTail, Pool};
use self::transactions::Transactions;
use super::log::{Ends, Log, LogError, Member, Membership, Producer, Reader, TopicPartition, TopicSpec};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a question to the broker may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long to wait for a transaction that is about to change an offset.
const STABLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long new topics may take to be known everywhere.
const PROPAGATION: Duration = Duration::from_secs(10);

/// A Kafka cluster.
pub struct KafkaLog {
    config: KafkaConfig,
    explain: Explain,
    observers: Observers,
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
        let (observers, readers) = (Observers::new(config, &explain), Pool::default());
        let log = Self { config: config.clone(), explain, observers, readers };
        let client = log.observers.get(&Role::Committed)?;
        if client.client().fetch_cluster_id(CONNECT_TIMEOUT).is_none() {
            drain(&client);
            return Err(log.explain.too_late("connecting", CONNECT_TIMEOUT, client.context()));
        }
        Ok(log)
    }

    fn watermarks(&self, at: &TopicPartition, role: &Role) -> Result<(i64, i64), LogError> {
        let client = self.observers.get(role)?;
        client
            .fetch_watermarks(&at.topic, at.partition.cast_signed(), QUERY_TIMEOUT)
            .map_err(|error| self.observers.error(&format!("asking for the ends of {at}"), &error, role, &client))
    }

    fn unstable(&self, group: &str) -> LogError {
        LogError::Unstable(format!(
            "Kafka at {}: a transaction that is about to change the offsets of group {group} is not decided. If that lasts \
             longer than {} s, the broker that coordinates the group has lost sight of its end. The next commit under the \
             same transactional.id mends that; otherwise restart that broker, which kafka-consumer-groups.sh \
             --bootstrap-server … --describe --state --group {group} names",
            self.explain.servers,
            transactions::OVER.as_secs()
        ))
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
        let client = self.observers.get(&Role::Committed)?;
        let failed = |error: &KafkaError| {
            self.observers.error(&format!("asking for the partitions of {topic}"), error, &Role::Committed, &client)
        };
        let metadata = client.fetch_metadata(Some(topic), QUERY_TIMEOUT).map_err(|error| failed(&error))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(u32::try_from(found.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(failed(&KafkaError::MetadataFetch(code))),
        }
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        // In this order, so that stable ≤ high whatever happens between.
        let (first, stable) = self.watermarks(at, &Role::Committed)?;
        let (_, high) = self.watermarks(at, &Role::Uncommitted)?;
        Ok(Ends { first, high, stable })
    }

    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        if at.is_empty() {
            return Ok(Vec::new());
        }
        let group = &format!("{}{group}", self.config.prefix);
        let (stable, unstable) = (Role::Group(group.clone()), Role::UnstableGroup(group.clone()));
        let doing = format!("asking for the committed offsets of group {group}");
        let client = self.observers.get(&stable)?;
        let error = match offsets(&client, at, STABLE_PATIENCE) {
            Ok(offsets) => return Ok(offsets),
            Err(error) => error,
        };
        // librdkafka asks again by itself while they are unstable, so that looks like silence: is it the coordinator's?
        if let Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::UnstableOffsetCommit) =
            error.rdkafka_error_code()
        {
            let other = self.observers.get(&unstable)?;
            match offsets(&other, at, QUERY_TIMEOUT) {
                Ok(_) => return Err(self.unstable(group)),
                Err(error) => drop(self.observers.error(&doing, &error, &unstable, &other)),
            }
        }
        Err(self.observers.error(&doing, &error, &stable, &client))
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

/// A group's offsets, in the order of the question.
fn offsets(client: &Observer, at: &[TopicPartition], limit: Duration) -> Result<Vec<Option<i64>>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(at.len());
    for at in at {
        list.add_partition(&at.topic, at.partition.cast_signed());
    }
    let list = client.committed_offsets(list, limit)?;
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
