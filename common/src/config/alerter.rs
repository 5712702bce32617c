//! The alerter's rules. Durations are of event time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;
use super::units;

/// `[alerter]`. Rules are named by their table: `[alerter.predicted_congestion.jam-60]`. Naming any of a kind
/// replaces the one that there is by default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlerterSettings {
    /// How often outputs, state and offsets are committed.
    #[serde(deserialize_with = "units::duration")]
    pub commit_interval: Duration,
    pub predicted_congestion: BTreeMap<String, PredictedCongestionSettings>,
    pub sensor_silent: BTreeMap<String, SensorSilentSettings>,
}

/// `[alerter.predicted_congestion.NAME]`: the forecast says that speed will probably be low.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictedCongestionSettings {
    pub enabled: bool,
    /// Minutes ahead: the forecasts that the rule reads.
    pub horizon_minutes: u32,
    /// The alert opens when a speed below this …
    pub open_below_kmh: f64,
    /// … is at least so probable …
    pub open_probability: f64,
    /// … for so long.
    #[serde(rename = "for", deserialize_with = "units::duration")]
    pub hold_for: Duration,
    /// It is resolved when a speed below this …
    pub close_below_kmh: f64,
    /// … is less probable than so …
    pub close_probability: f64,
    /// … for so long.
    #[serde(deserialize_with = "units::duration")]
    pub close_for: Duration,
    /// A segment's next alert opens at the earliest so long after the last one ended.
    #[serde(deserialize_with = "units::duration")]
    pub reopen_after: Duration,
    /// An alert is resolved when its segment was not forecast for so long.
    #[serde(deserialize_with = "units::duration")]
    pub forget: Duration,
}

/// `[alerter.sensor_silent.NAME]`: a segment from which there were readings has none any more.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SensorSilentSettings {
    pub enabled: bool,
    /// The alert opens when the last window with readings ended longer ago than this.
    #[serde(deserialize_with = "units::duration")]
    pub after: Duration,
    /// A segment's next alert opens at the earliest so long after the last one ended.
    #[serde(deserialize_with = "units::duration")]
    pub reopen_after: Duration,
    /// A segment without readings for so long is watched no more, and its alert is resolved.
    #[serde(deserialize_with = "units::duration")]
    pub forget: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Names of rules are part of ids: `ALERT_<segment>_<rule>_<opened_at>`.
const LONGEST_NAME: usize = 30;

impl Default for AlerterSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(100),
            predicted_congestion: [("predicted-congestion".to_owned(), PredictedCongestionSettings::default())].into(),
            sensor_silent: [("sensor-silent".to_owned(), SensorSilentSettings::default())].into(),
        }
    }
}

impl Default for PredictedCongestionSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            horizon_minutes: 30,
            open_below_kmh: 40.0,
            open_probability: 0.6,
            hold_for: 5 * MINUTE,
            close_below_kmh: 50.0,
            close_probability: 0.4,
            close_for: 10 * MINUTE,
            reopen_after: 15 * MINUTE,
            forget: 60 * MINUTE,
        }
    }
}

impl Default for SensorSilentSettings {
    fn default() -> Self {
        Self { enabled: true, after: 15 * MINUTE, reopen_after: 15 * MINUTE, forget: DAY }
    }
}

impl AlerterSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let interval = self.commit_interval;
        // A transaction is given up after 8 s.
        let fits = interval >= Duration::from_millis(1) && interval <= Duration::from_secs(5);
        problems.require(fits, "alerter.commit_interval", units::shown(interval), "1ms to 5s");
        let mut names = BTreeSet::new();
        for (name, rule) in &self.predicted_congestion {
            let path = format!("alerter.predicted_congestion.{name}");
            check_name(&path, name, &mut names, problems);
            rule.validate(&path, problems);
        }
        for (name, rule) in &self.sensor_silent {
            let path = format!("alerter.sensor_silent.{name}");
            check_name(&path, name, &mut names, problems);
            rule.validate(&path, problems);
        }
    }
}

fn check_name<'n>(path: &str, name: &'n str, names: &mut BTreeSet<&'n str>, problems: &mut Problems) {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let fits = plain && (1..=LONGEST_NAME).contains(&name.len());
    problems.require(fits, path, name, "a rule's name has 1 to 30 of the characters a-z 0-9 -");
    problems.require(names.insert(name), path, name, "a name that no other rule has");
}

/// Reports settings of one rule.
struct Check<'a> {
    path: &'a str,
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn duration(&mut self, setting: &str, value: Duration, least: Duration, most: Duration, allowed: &str) {
        let fits = value >= least && value <= most;
        self.problems.require(fits, &format!("{}.{setting}", self.path), units::shown(value), allowed);
    }

    fn number(&mut self, setting: &str, value: f64, fits: bool, allowed: &str) {
        self.problems.require(fits, &format!("{}.{setting}", self.path), value, allowed);
    }
}

impl PredictedCongestionSettings {
    fn validate(&self, path: &str, problems: &mut Problems) {
        let horizon = self.horizon_minutes;
        let fits = (5..=60).contains(&horizon) && horizon.is_multiple_of(5);
        problems.require(fits, &format!("{path}.horizon_minutes"), horizon, "5, 10, … 60");
        let mut check = Check { path, problems };
        let (open, close) = (self.open_below_kmh, self.close_below_kmh);
        check.number("open_below_kmh", open, open > 0.0 && open <= 200.0, "above 0, up to 200");
        let allowed = format!("open_below_kmh ({open}) to 200");
        check.number("close_below_kmh", close, close >= open && close <= 200.0, &allowed);
        let (open, close) = (self.open_probability, self.close_probability);
        check.number("open_probability", open, open > 0.0 && open <= 1.0, "above 0, up to 1");
        let allowed = format!("above 0, up to open_probability ({open})");
        check.number("close_probability", close, close > 0.0 && close <= open, &allowed);
        let none = Duration::ZERO;
        check.duration("for", self.hold_for, none, DAY, "0s to 1d");
        check.duration("close_for", self.close_for, none, DAY, "0s to 1d");
        check.duration("reopen_after", self.reopen_after, none, 7 * DAY, "0s to 7d");
        check.duration("forget", self.forget, 15 * MINUTE, 30 * DAY, "15m to 30d");
    }
}

impl SensorSilentSettings {
    fn validate(&self, path: &str, problems: &mut Problems) {
        let mut check = Check { path, problems };
        check.duration("after", self.after, 5 * MINUTE, DAY, "5m to 1d");
        check.duration("reopen_after", self.reopen_after, Duration::ZERO, 7 * DAY, "0s to 7d");
        let allowed = format!("more than after ({}), up to 30d", units::shown(self.after));
        let least = self.after + Duration::from_millis(1);
        check.duration("forget", self.forget, least, 30 * DAY, &allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError};
    use super::*;

    fn read(toml: &str) -> Result<AlerterSettings, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), toml).expect("a temporary file takes text");
        Config::load(Some(file.path()), [], &[]).map(|config| config.alerter)
    }

    #[test]
    fn rules_are_named_by_their_tables() {
        assert_eq!(read("").expect("valid"), AlerterSettings::default());
        let set = read(
            r#"
            [alerter.predicted_congestion.jam-15]
            horizon_minutes = 15
            for = "0s"
            [alerter.predicted_congestion.jam-60]
            horizon_minutes = 60
            open_probability = 0.8
            [alerter.sensor_silent.sensor-silent]
            enabled = false
            "#,
        )
        .expect("valid");
        let jams: Vec<_> = set.predicted_congestion.keys().map(String::as_str).collect();
        assert_eq!(jams, ["jam-15", "jam-60"], "they replace the default one");
        assert_eq!(set.predicted_congestion["jam-15"].hold_for, Duration::ZERO);
        assert!((set.predicted_congestion["jam-60"].open_below_kmh - 40.0).abs() < 1e-9);
        assert!(!set.sensor_silent["sensor-silent"].enabled);
    }

    #[test]
    fn what_is_wrong_names_setting_value_and_what_is_allowed() {
        for (toml, expected) in [
            ("[alerter]\ncommit_interval = \"9s\"", "alerter.commit_interval = \"9s\""),
            ("[alerter.predicted_congestion.Jam]", "alerter.predicted_congestion.Jam = \"Jam\""),
            ("[alerter.predicted_congestion.x]\n[alerter.sensor_silent.x]\nafter=\"5m\"", "that no other rule has"),
            ("[alerter.predicted_congestion.x]\nclose_below_kmh = 30", "allowed: open_below_kmh (40) to 200"),
            ("[alerter.predicted_congestion.x]\nclose_probability = 0.7", "allowed: above 0, up to open_probability"),
            ("[alerter.predicted_congestion.x]\nopen_probability = 60", "allowed: above 0, up to 1"),
            ("[alerter.predicted_congestion.x]\nhorizon_minutes = 7", "x.horizon_minutes = \"7\""),
            ("[alerter.predicted_congestion.x]\nfor = \"2d\"", "x.for = \"172800s\""),
            ("[alerter.predicted_congestion.x]\nfor = 5", "expected a string"),
            ("[alerter.predicted_congestion.x]\nhold_for = \"5m\"", "unknown field"),
            ("[alerter.sensor_silent.x]\nafter = \"1m\"", "alerter.sensor_silent.x.after = \"60s\""),
            (
                "[alerter.sensor_silent.x]\nafter = \"2h\"\nforget = \"1h\"",
                "allowed: more than after (7200s), up to 30d",
            ),
        ] {
            let error = read(toml).expect_err(toml);
            let found = error.problems();
            assert!(found.len() == 1 && found[0].contains(expected), "{toml}: {found:?}");
        }
    }
}
