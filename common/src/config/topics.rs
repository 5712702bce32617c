//! The topics: prefix of their names, partitions, replication, retention.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;
use super::units;
use crate::stream::{Cleanup, TopicSpec};
use crate::topics::Topics;

/// `[topics]`: how `traffic init` makes them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// In front of every topic's name: lets several deployments share one cluster.
    pub prefix: String,
    /// Of each topic.
    pub partitions: u32,
    /// Copies of each partition; Kafka only.
    pub replication: u16,
    pub retention: Retention,
}

/// `[topics.retention]`: for how long each topic keeps its records; `None` ("forever") is for ever.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retention {
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub traffic_events: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub processed_traffic_aggregates: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub traffic_predictions: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub traffic_alerts: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub traffic_events_dlq: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub traffic_events_rekeyed: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub alerter_commands: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub alert_transitions: Option<Duration>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for TopicSettings {
    fn default() -> Self {
        Self { prefix: String::new(), partitions: 12, replication: 1, retention: Retention::default() }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            traffic_events: Some(7 * DAY),
            processed_traffic_aggregates: Some(30 * DAY),
            traffic_predictions: Some(7 * DAY),
            traffic_alerts: Some(30 * DAY),
            traffic_events_dlq: Some(30 * DAY),
            traffic_events_rekeyed: Some(DAY),
            alerter_commands: Some(7 * DAY),
            alert_transitions: Some(7 * DAY),
        }
    }
}

impl Retention {
    /// Nothing is ever forgotten.
    #[must_use]
    pub fn for_ever() -> Self {
        Self {
            traffic_events: None,
            processed_traffic_aggregates: None,
            traffic_predictions: None,
            traffic_alerts: None,
            traffic_events_dlq: None,
            traffic_events_rekeyed: None,
            alerter_commands: None,
            alert_transitions: None,
        }
    }

    fn of_each(&self) -> [(&'static str, Option<Duration>); 8] {
        [
            ("traffic-events", self.traffic_events),
            ("processed-traffic-aggregates", self.processed_traffic_aggregates),
            ("traffic-predictions", self.traffic_predictions),
            ("traffic-alerts", self.traffic_alerts),
            ("traffic-events-dlq", self.traffic_events_dlq),
            ("traffic-events-rekeyed", self.traffic_events_rekeyed),
            ("alerter-commands", self.alerter_commands),
            ("alert-transitions", self.alert_transitions),
        ]
    }
}

impl TopicSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let prefix_fits = self.prefix.len() <= 100 && self.prefix.chars().all(super::may_be_in_a_name);
        problems.require(prefix_fits, "topics.prefix", &self.prefix, "up to 100 of the characters a-z A-Z 0-9 . _ -");
        problems.require((1..=1000).contains(&self.partitions), "topics.partitions", self.partitions, "1 to 1000");
        problems.require((1..=16).contains(&self.replication), "topics.replication", self.replication, "1 to 16");
        for (topic, retention) in self.retention.of_each() {
            let retention = retention.unwrap_or(DAY);
            let setting = format!("topics.retention.{topic}");
            let fits = retention >= Duration::from_secs(3600) && retention <= 36_500 * DAY;
            problems.require(fits, &setting, units::shown(retention), "1h to 36500d, or forever");
        }
    }

    /// The names of all topics.
    #[must_use]
    pub fn names(&self) -> Topics {
        Topics::with_prefix(&self.prefix)
    }

    /// All topics as they should be but for the changelogs.
    #[must_use]
    pub fn specs(&self) -> Vec<TopicSpec> {
        let names = self.names();
        let fixed = self.retention.of_each().into_iter().map(|(name, retention)| {
            let retention_ms = retention.map(|r| i64::try_from(r.as_millis()).unwrap_or(i64::MAX));
            let name = format!("{}{name}", self.prefix);
            // One order for all of them.
            let partitions = if name == names.alert_transitions { 1 } else { self.partitions };
            TopicSpec { name, partitions, replication: self.replication, cleanup: Cleanup::Delete { retention_ms } }
        });
        // Read as a whole by every instance.
        let digest = TopicSpec {
            name: names.digest.clone(),
            partitions: 1,
            replication: self.replication,
            cleanup: Cleanup::Compact,
        };
        fixed.chain([digest]).collect()
    }

    /// An application's changelog as it should be, with as many partitions as its inputs.
    #[must_use]
    pub fn changelog(&self, application_id: &str, partitions: u32) -> TopicSpec {
        let name = self.names().changelog(application_id);
        TopicSpec { name, partitions, replication: self.replication, cleanup: Cleanup::Compact }
    }
}
