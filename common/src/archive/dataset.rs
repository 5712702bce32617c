//! What is archived: each dataset has its topic, its tables, and its rule for what a valid record is.

use crate::topics::Topics;

/// One topic's part of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dataset {
    /// Sensor events of every dialect, by event time.
    Events,
    /// 5-minute aggregates and their corrections, by the window's start.
    Aggregates,
    /// Forecasts, by the time they were made at.
    Predictions,
}

impl Dataset {
    pub const ALL: [Self; 3] = [Self::Events, Self::Aggregates, Self::Predictions];

    /// The topic that is copied.
    #[must_use]
    pub fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Events => &topics.events,
            Self::Aggregates => &topics.aggregates,
            Self::Predictions => &topics.predictions,
        }
    }
}
