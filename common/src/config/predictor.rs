//! What the predictor forecasts, and when.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::problems::Problems;
use super::units;
use crate::store;

/// `[predictor]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PredictorSettings {
    /// Minutes ahead.
    pub horizons: Vec<u32>,
    /// Whose clock people commute by; `time_zone` if not set.
    #[serde(deserialize_with = "super::optional_time_zone")]
    pub time_zone: Option<TimeZone>,
    /// Local dates that are no working days: profiles take them for Sundays.
    #[serde(deserialize_with = "super::dates")]
    pub holidays: Vec<Date>,
    /// How long a young frame waits for partitions that say nothing.
    #[serde(deserialize_with = "units::duration")]
    pub deadline: Duration,
    /// How often outputs, state and offsets are committed at most, unless a window has just ended.
    #[serde(deserialize_with = "units::duration")]
    pub commit_interval: Duration,
    /// Where the models are in the store: see `docs/models.md`.
    pub models: String,
    /// How often a worker looks whether another model is current.
    #[serde(deserialize_with = "units::duration")]
    pub model_poll: Duration,
    pub retrain: RetrainSettings,
}

/// `[predictor.retrain]`: new models from the archive, on a schedule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrainSettings {
    /// Whether this process trains at all. Of several that do, one at a time does.
    pub enabled: bool,
    /// From one model to the next.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// Days of the archive that a model is fitted to and judged on.
    pub days: u32,
    /// The last of them, that it is judged on.
    pub held_out_days: u32,
    /// By which share of the current model's error there it has to be better.
    pub margin: f64,
    /// How long one that is better forecasts beside the current one, unpublished, before it takes its place; 0 is not at
    /// all.
    #[serde(deserialize_with = "units::duration")]
    pub shadow: Duration,
    /// Threads that a fit takes from the forecasts.
    pub threads: u32,
}

impl Default for RetrainSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Duration::from_secs(86_400),
            days: 28,
            held_out_days: 3,
            margin: 0.01,
            shadow: Duration::ZERO,
            threads: 1,
        }
    }
}

impl RetrainSettings {
    fn validate(&self, problems: &mut Problems) {
        let (minute, week) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));
        let interval_fits = self.interval >= minute && self.interval <= 8 * week;
        problems.require(interval_fits, "predictor.retrain.interval", units::shown(self.interval), "1m to 56d");
        problems.require((2..=3_660).contains(&self.days), "predictor.retrain.days", self.days, "2 to 3660");
        let held_out_fits = (1..self.days).contains(&self.held_out_days);
        let allowed = "1 or more, and fewer than predictor.retrain.days";
        problems.require(held_out_fits, "predictor.retrain.held_out_days", self.held_out_days, allowed);
        let margin_fits = (0.0..1.0).contains(&self.margin);
        problems.require(margin_fits, "predictor.retrain.margin", self.margin, "a share like 0.01: 0 or more, below 1");
        problems.require(self.shadow <= week, "predictor.retrain.shadow", units::shown(self.shadow), "0s to 7d");
        problems.require((1..=256).contains(&self.threads), "predictor.retrain.threads", self.threads, "1 to 256");
    }
}

impl Default for PredictorSettings {
    fn default() -> Self {
        Self {
            horizons: vec![15, 30, 60],
            time_zone: None,
            holidays: Vec::new(),
            deadline: Duration::from_secs(10),
            commit_interval: Duration::from_millis(100),
            models: "/models/speed".to_owned(),
            model_poll: Duration::from_secs(10),
            retrain: RetrainSettings::default(),
        }
    }
}

impl PredictorSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let fits = (1..=12).contains(&self.horizons.len())
            && self.horizons.iter().all(|minutes| minutes % 5 == 0 && (5..=60).contains(minutes))
            && self.horizons.is_sorted_by(|a, b| a < b);
        let said = format!("{:?}", self.horizons);
        problems.require(fits, "predictor.horizons", said, "multiples of 5, of 5 to 60 minutes, ascending");
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let deadline_fits = self.deadline >= s(1) && self.deadline <= s(300);
        problems.require(deadline_fits, "predictor.deadline", units::shown(self.deadline), "1s to 5m");
        let interval_fits = self.commit_interval >= ms(1) && self.commit_interval <= s(5);
        // A transaction is given up after 8 s.
        problems.require(interval_fits, "predictor.commit_interval", units::shown(self.commit_interval), "1ms to 5s");
        let models_fit = self.models != "/" && store::is_sound(&self.models);
        let allowed = "a directory of the store like /models/speed: absolute, no part empty or beginning with a dot";
        problems.require(models_fit, "predictor.models", &self.models, allowed);
        let poll_fits = self.model_poll >= s(1) && self.model_poll <= s(3600);
        problems.require(poll_fits, "predictor.model_poll", units::shown(self.model_poll), "1s to 1h");
        self.retrain.validate(problems);
    }
}
