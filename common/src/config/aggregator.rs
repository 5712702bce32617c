//! The aggregator's clocks.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;
use super::units;

/// `[aggregator]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AggregatorSettings {
    /// How far events of one partition may be out of order before the watermark passes them.
    #[serde(deserialize_with = "units::duration")]
    pub out_of_orderness: Duration,
    /// For how long after the watermark an event still corrects its window.
    #[serde(deserialize_with = "units::duration")]
    pub lateness: Duration,
    /// For how long a partition must be confirmed to be at its end before it follows the clock.
    #[serde(deserialize_with = "units::duration")]
    pub idle: Duration,
    /// When a segment that is heard of no more is forgotten.
    #[serde(deserialize_with = "units::duration")]
    pub state_expiry: Duration,
    /// How often a sensor reports; learnt from the events if not set.
    #[serde(deserialize_with = "units::optional_duration")]
    pub reading_interval: Option<Duration>,
    /// How often outputs, state and offsets are committed.
    #[serde(deserialize_with = "units::duration")]
    pub commit_interval: Duration,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self {
            out_of_orderness: Duration::from_secs(30),
            lateness: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(60),
            state_expiry: Duration::from_secs(30 * 86_400),
            reading_interval: None,
            commit_interval: Duration::from_millis(100),
        }
    }
}

impl AggregatorSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let hour = Duration::from_secs(3600);
        let mut within = |setting: &str, value: Duration, least: Duration, most: Duration, allowed: &str| {
            problems.require(value >= least && value <= most, setting, units::shown(value), allowed);
        };
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        within("aggregator.out_of_orderness", self.out_of_orderness, ms(0), hour, "0s to 1h");
        within("aggregator.lateness", self.lateness, ms(0), 24 * hour, "0s to 24h");
        within("aggregator.idle", self.idle, s(1), hour, "1s to 1h");
        within("aggregator.state_expiry", self.state_expiry, 24 * hour, 24 * 365 * hour, "1d to 365d");
        // A transaction is given up after 8 s.
        within("aggregator.commit_interval", self.commit_interval, ms(1), s(5), "1ms to 5s");
        if let Some(interval) = self.reading_interval {
            within("aggregator.reading_interval", interval, s(1), s(300), "1s to 5m");
        }
    }
}
