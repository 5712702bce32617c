//! The topics of the flow, by name; `config/topics.rs` says how `traffic init` makes them.

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
    /// Internal: what each partition's predictor knows of its segments, window by window; one partition.
    pub digest: String,
    /// Alerts and their transitions.
    pub alerts: String,
    /// What operators tell the alerter: acknowledgements, silences.
    pub alerter_commands: String,
    /// Internal: transitions on their way to `traffic-alerts`; one partition.
    pub alert_transitions: String,
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
            digest: name("predictor-digest"),
            alerts: name("traffic-alerts"),
            alerter_commands: name("alerter-commands"),
            alert_transitions: name("alert-transitions"),
            prefix: prefix.to_owned(),
        }
    }

    /// The changelog of an application.
    #[must_use]
    pub fn changelog(&self, application_id: &str) -> String {
        format!("{}{application_id}-state", self.prefix)
    }
}
