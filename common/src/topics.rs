//! The topics of the flow: their names, and how `traffic init` makes them.

use crate::stream::{Cleanup, TopicSpec};

/// Topic names; a prefix lets several deployments share one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Sensor events, keyed by segment (or not): what sensors write.
    pub events: String,
    /// Internal: events on their way to the partition that owns their segment.
    pub rekeyed: String,
    /// Events that were refused, with the reason.
    pub dead_letters: String,
    /// 5-minute aggregates by segment.
    pub aggregates: String,
    /// Forecasts.
    pub predictions: String,
    /// Alerts and their transitions.
    pub alerts: String,
    prefix: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self::with_prefix("")
    }
}

impl Topics {
    #[must_use]
    pub fn with_prefix(prefix: &str) -> Self {
        let name = |topic: &str| format!("{prefix}{topic}");
        Self {
            events: name("traffic-events"),
            rekeyed: name("traffic-events-rekeyed"),
            dead_letters: name("traffic-events-dlq"),
            aggregates: name("processed-traffic-aggregates"),
            predictions: name("traffic-predictions"),
            alerts: name("traffic-alerts"),
            prefix: prefix.to_owned(),
        }
    }

    /// The changelog of an application.
    #[must_use]
    pub fn changelog(&self, application_id: &str) -> String {
        format!("{}{application_id}-state", self.prefix)
    }

    /// Every topic as it should be. Topics that are read together have the same number of partitions.
    #[must_use]
    pub fn specs(&self, partitions: u32, replication: u16, retention_ms: Option<i64>) -> Vec<TopicSpec> {
        let kept = Cleanup::Delete { retention_ms };
        let topic = |name: &str, cleanup| TopicSpec { name: name.to_owned(), partitions, replication, cleanup };
        vec![
            topic(&self.events, kept),
            topic(&self.rekeyed, kept),
            topic(&self.dead_letters, kept),
            topic(&self.aggregates, kept),
            topic(&self.predictions, kept),
            topic(&self.alerts, kept),
            self.changelog_spec("aggregator", partitions, replication),
        ]
    }

    /// An application's changelog as it should be.
    #[must_use]
    pub fn changelog_spec(&self, application_id: &str, partitions: u32, replication: u16) -> TopicSpec {
        TopicSpec { name: self.changelog(application_id), partitions, replication, cleanup: Cleanup::Compact }
    }
}
