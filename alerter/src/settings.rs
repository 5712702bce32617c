//! The rules, as the machine uses them.

use std::time::Duration;

use common::config::{AlerterSettings, PredictedCongestionSettings, SensorSilentSettings};

/// The rules that are on, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub rules: Vec<Rule>,
}

/// A rule: its name, and what it looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: Box<str>,
    /// How state entries name it: by kind and name, so that a name may pass from one kind to another.
    pub(crate) state_name: Box<str>,
    /// A segment's next alert opens at the earliest so long after the last one ended.
    pub reopen_after_ms: i64,
    /// When a segment that its topic does not speak of any more is let go.
    pub forget_ms: i64,
    pub kind: Kind,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    PredictedCongestion(PredictedCongestion),
    SensorSilent(SensorSilent),
}

impl Kind {
    /// In front of a rule's name in state entries.
    pub(crate) const CONGESTION: &'static str = "congestion:";
    pub(crate) const SILENT: &'static str = "silent:";
}

/// Forecasts of one horizon; see `congestion.rs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictedCongestion {
    pub horizon_minutes: u32,
    pub open_below_kmh: f64,
    pub open_probability: f64,
    pub open_for_ms: i64,
    pub close_below_kmh: f64,
    pub close_probability: f64,
    pub close_for_ms: i64,
}

/// Aggregates and their watermark markers; see `silent.rs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SensorSilent {
    pub after_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&AlerterSettings::default())
    }
}

impl From<&AlerterSettings> for Settings {
    fn from(set: &AlerterSettings) -> Self {
        let congestion = set.predicted_congestion.iter().filter(|(_, s)| s.enabled).map(|(n, s)| congestion(n, s));
        let silent = set.sensor_silent.iter().filter(|(_, s)| s.enabled).map(|(n, s)| silent(n, s));
        let mut rules: Vec<Rule> = congestion.chain(silent).collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        Self { rules }
    }
}

fn congestion(name: &str, set: &PredictedCongestionSettings) -> Rule {
    Rule {
        name: name.into(),
        state_name: format!("{}{name}", Kind::CONGESTION).into(),
        reopen_after_ms: ms(set.reopen_after),
        forget_ms: ms(set.forget),
        kind: Kind::PredictedCongestion(PredictedCongestion {
            horizon_minutes: set.horizon_minutes,
            open_below_kmh: set.open_below_kmh,
            open_probability: set.open_probability,
            open_for_ms: ms(set.hold_for),
            close_below_kmh: set.close_below_kmh,
            close_probability: set.close_probability,
            close_for_ms: ms(set.close_for),
        }),
    }
}

fn silent(name: &str, set: &SensorSilentSettings) -> Rule {
    Rule {
        name: name.into(),
        state_name: format!("{}{name}", Kind::SILENT).into(),
        reopen_after_ms: ms(set.reopen_after),
        forget_ms: ms(set.forget),
        kind: Kind::SensorSilent(SensorSilent { after_ms: ms(set.after) }),
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
