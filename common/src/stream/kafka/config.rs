//! How to reach a Kafka cluster, and what every client of it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use secrecy::{ExposeSecret as _, SecretString};

use crate::stream::log::LogError;

/// How to reach a Kafka cluster.
#[derive(Clone, Default)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    pub security: Security,
    /// Raw librdkafka settings, which win over the defaults here; those that exactly-once processing
    /// rests on are refused.
    pub overrides: BTreeMap<String, String>,
    /// In front of every group's name and `transactional.id`, so that deployments can share a cluster.
    pub prefix: String,
    /// Where to die, for crash tests.
    pub failpoint: Option<Failpoint>,
}

/// How clients prove who they are; all `None`: plaintext.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// A PEM file with the authority that signed the brokers' certificates.
    pub ca_location: Option<PathBuf>,
}

/// A place where the process kills itself, so that tests can die at the worst moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// After this many commits with offsets, the next one dies between handing its offsets to the
    /// transaction and committing it.
    ExitBetweenOffsetsAndCommit { after_commits: u64 },
}

/// Settings that the log's promises rest on.
const OWNED: [&str; 19] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "log.queue",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

impl fmt::Debug for KafkaConfig {
    /// Overrides by name only: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("security", &self.security)
            .field("overrides", &self.overrides.keys().collect::<Vec<_>>())
            .field("failpoint", &self.failpoint)
            .finish()
    }
}

impl KafkaConfig {
    pub(super) fn validate(&self) -> Result<(), LogError> {
        if self.bootstrap_servers.trim().is_empty() {
            return Err(LogError::Fatal("the Kafka address is empty; give host:port, several with commas".to_owned()));
        }
        match self.overrides.keys().find(|key| OWNED.contains(&key.as_str())) {
            Some(key) => Err(LogError::Fatal(format!(
                "the Kafka setting {key} cannot be overridden: exactly-once processing rests on it; remove it"
            ))),
            None => Ok(()),
        }
    }

    /// Settings of a client, role-specific ones first, overrides last.
    pub(super) fn client(&self, role: &[(&str, &str)]) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        client
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "traffic")
            .set("socket.keepalive.enable", "true")
            // A broker that comes back is found within a second.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Closing a client would wait for a last report.
            .set("enable.metrics.push", "false");
        let security = &self.security;
        let ca_location = security.ca_location.as_ref().map(|path| path.to_string_lossy().into_owned());
        let named = [
            ("security.protocol", security.protocol.as_deref()),
            ("sasl.mechanism", security.mechanism.as_deref()),
            ("sasl.username", security.username.as_deref()),
            ("sasl.password", security.password.as_ref().map(|secret| secret.expose_secret())),
            ("ssl.ca.location", ca_location.as_deref()),
        ];
        for (key, value) in named.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            client.set(key, value);
        }
        for (key, value) in role {
            client.set(*key, *value);
        }
        for (key, value) in &self.overrides {
            client.set(key, value);
        }
        client
    }
}

/// What consumers of every kind are told.
pub(super) const CONSUMER: [(&str, &str); 8] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "earliest"),
    ("enable.partition.eof", "true"),
    // A full queue would pause the fetcher for a second by default.
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.max.bytes", "8388608"),
    // The limit of a request that has no other, such as a commit without a transaction.
    ("socket.timeout.ms", "10000"),
];

/// What producers of every kind are told.
pub(super) const PRODUCER: [(&str, &str); 10] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    // As Java's producers do.
    ("partitioner", "murmur2_random"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("batch.size", "1048576"),
    // The broker's own default; librdkafka's (1,000,000) refuses records of a megabyte that the broker takes.
    ("message.max.bytes", "1048588"),
    ("queue.buffering.max.kbytes", "32768"),
    // Successes are counted, not reported one by one.
    ("delivery.report.only.error", "true"),
    ("queue.buffering.max.messages", "500000"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: "kafka:9093".to_owned(),
            security: Security {
                protocol: Some("SASL_SSL".to_owned()),
                password: Some(SecretString::from("hunter2")),
                ..Security::default()
            },
            overrides: BTreeMap::from([("ssl.key.password".to_owned(), "hunter3".to_owned())]),
            prefix: String::new(),
            failpoint: None,
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", config());
        assert!(shown.contains("kafka:9093") && shown.contains("ssl.key.password"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn overrides_win_over_defaults() {
        let mut config = config();
        config.overrides.insert("linger.ms".to_owned(), "50".to_owned());
        let client = config.client(&PRODUCER);
        assert_eq!(client.get("linger.ms"), Some("50"));
        assert_eq!(client.get("acks"), Some("all"));
        assert_eq!(client.get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn owned_settings_cannot_be_overridden() {
        let mut config = config();
        config.overrides.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
        let error = config.validate().expect_err("isolation.level is owned");
        assert!(matches!(&error, LogError::Fatal(text) if text.contains("isolation.level")), "{error}");
    }
}
