//! What may be set.

use jiff::tz::TimeZone;

use crate::forecast::calendar::LocalTime;

/// How the predictor works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Minutes ahead: multiples of 5, of 5 to 60, ascending.
    pub horizons: Vec<u32>,
    /// Profiles follow its clock and holidays.
    pub time: LocalTime,
    /// Whether what is usual stays as it was when the model was fitted; an evaluation asks for it.
    pub frozen: bool,
    /// How long a frame waits for partitions that say nothing, ms …
    pub deadline_ms: i64,
    /// … and how young it must be for that, ms: history waits as long as it takes.
    pub recent_ms: i64,
    /// Windows after which a silent segment is forecast no more.
    pub silent_after: i64,
    /// Windows after which a silent segment is forgotten.
    pub forget_after: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            horizons: vec![15, 30, 60],
            time: TimeZone::UTC.into(),
            frozen: false,
            deadline_ms: 10_000,
            recent_ms: 3_600_000,
            silent_after: 12,
            forget_after: 30 * 288,
        }
    }
}
