//! What may be set about the aggregator.

use common::model::Normaliser;

/// Times are milliseconds of event time unless said otherwise.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the topic of events, as dead letters give it.
    pub events_topic: String,
    pub window_ms: i64,
    /// How far events of one partition may be out of order before a window closes without them.
    pub out_of_orderness_ms: i64,
    /// How long after its end a window still takes events, as corrections.
    pub lateness_ms: i64,
    /// How much longer for events that came by way of another partition.
    pub rekeyed_lateness_ms: i64,
    /// A partition silent for so long (wall time) at its confirmed end follows the clock.
    pub idle_ms: i64,
    /// … but only if its newest event is not older than this.
    pub idle_horizon_ms: i64,
    /// How far one partition may run ahead of the slowest before it stops keeping windows for it.
    pub max_skew_ms: i64,
    /// Segments not heard of for so long are forgotten.
    pub expiry_ms: i64,
    /// The interval at which a segment reports: what a window's quality is measured against.
    pub reading_interval_ms: Option<i64>,
    pub normaliser: Normaliser,
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

impl Default for Settings {
    fn default() -> Self {
        Self {
            events_topic: "traffic-events".into(),
            window_ms: 5 * MINUTE_MS,
            out_of_orderness_ms: 30_000,
            lateness_ms: 15 * MINUTE_MS,
            rekeyed_lateness_ms: MINUTE_MS,
            idle_ms: MINUTE_MS,
            idle_horizon_ms: 60 * MINUTE_MS,
            max_skew_ms: DAY_MS,
            expiry_ms: 30 * DAY_MS,
            reading_interval_ms: None,
            normaliser: Normaliser::default(),
        }
    }
}
