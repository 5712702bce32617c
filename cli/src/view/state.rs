//! What the live view knows: records folded into counts, in memory that is bounded whatever the topics hold.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use common::model::{Alert, AlertStatus, CongestionLevel, Severity};
use serde::Deserialize;

/// Alerts are shown by so many of their newest transitions.
const TRANSITIONS: usize = 6;
/// Forecasts of the first so many segments are scored: enough for a mean, and what they need stays small.
const SCORED_SEGMENTS: u32 = 4096;
/// Windows of a segment whose truth or forecasts are remembered; the oldest are forgotten first.
const CELLS: usize = 100_000;
/// The rate of events is taken over so long.
const RATE_MS: i64 = 5_000;

/// What of an aggregate is shown.
#[derive(Deserialize)]
struct Aggregate<'a> {
    #[serde(borrow)]
    segment_id: Cow<'a, str>,
    window_end: i64,
    avg_speed: Option<f64>,
}

/// What of a forecast is scored.
#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    segment_id: Cow<'a, str>,
    prediction_horizon: u32,
    target_timestamp: i64,
    predicted_speed: f64,
    current_speed: f64,
    uncertainty_bounds: common::model::UncertaintyBounds,
}

/// A segment's window: what was forecast for it, and what it came to.
#[derive(Default)]
struct Cell {
    truth: Option<f64>,
    forecasts: Vec<Forecast>,
}

struct Forecast {
    horizon: u32,
    speed: f64,
    last: f64,
    lower: f64,
    upper: f64,
}

/// Absolute errors of one horizon, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Errors {
    pub scored: u64,
    pub forecast: f64,
    pub last: f64,
    pub inside: u64,
}

/// One line of the list of alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub at_ms: i64,
    pub segment: String,
    pub rule: String,
    pub severity: Severity,
    pub status: AlertStatus,
    pub description: String,
}

/// Everything the view shows.
#[derive(Default)]
pub struct State {
    /// Event time up to which some window has closed.
    pub reached_ms: Option<i64>,
    /// By minutes ahead.
    pub errors: BTreeMap<u32, Errors>,
    /// Newest first.
    pub transitions: VecDeque<Transition>,
    segments: HashMap<Box<str>, u32>,
    /// By segment: its newest window, and the level there.
    levels: Vec<(i64, Option<CongestionLevel>)>,
    cells: BTreeMap<(i64, u32), Cell>,
    open: HashSet<String>,
    /// (when, events so far), oldest first.
    counted: VecDeque<(i64, u64)>,
}

impl State {
    /// Takes a record of the topic of aggregates.
    ///
    /// # Errors
    /// If it is none.
    pub fn aggregate(&mut self, value: &[u8]) -> Result<(), serde_json::Error> {
        let Aggregate { segment_id, window_end, avg_speed } = serde_json::from_slice(value)?;
        self.reached_ms = self.reached_ms.max(Some(window_end));
        let segment = self.segment(&segment_id);
        let newest = &mut self.levels[segment as usize];
        if window_end >= newest.0 {
            *newest = (window_end, avg_speed.map(CongestionLevel::of));
        }
        if segment < SCORED_SEGMENTS {
            let cell = self.cells.entry((window_end, segment)).or_default();
            for forecast in &cell.forecasts {
                let errors = self.errors.entry(forecast.horizon).or_default();
                cell.truth.iter().for_each(|before| errors.take_back(forecast, *before));
                avg_speed.iter().for_each(|now| errors.add(forecast, *now));
            }
            cell.truth = avg_speed;
            self.forget();
        }
        Ok(())
    }

    /// Takes a record of the topic of forecasts.
    ///
    /// # Errors
    /// If it is none.
    pub fn prediction(&mut self, value: &[u8]) -> Result<(), serde_json::Error> {
        let made: Prediction<'_> = serde_json::from_slice(value)?;
        let segment = self.segment(&made.segment_id);
        if segment < SCORED_SEGMENTS {
            let forecast = Forecast {
                horizon: made.prediction_horizon,
                speed: made.predicted_speed,
                last: made.current_speed,
                lower: made.uncertainty_bounds.speed_lower,
                upper: made.uncertainty_bounds.speed_upper,
            };
            let errors = self.errors.entry(forecast.horizon).or_default();
            let cell = self.cells.entry((made.target_timestamp, segment)).or_default();
            cell.truth.iter().for_each(|truth| errors.add(&forecast, *truth));
            cell.forecasts.push(forecast);
            self.forget();
        }
        Ok(())
    }

    /// Takes a record of the topic of alerts.
    ///
    /// # Errors
    /// If it is none.
    pub fn alert(&mut self, value: &[u8]) -> Result<(), serde_json::Error> {
        let alert: Alert<'_> = serde_json::from_slice(value)?;
        let later = self.transitions.iter().take_while(|t| t.at_ms > alert.timestamp).count();
        let transition = Transition {
            at_ms: alert.timestamp,
            segment: alert.segment_id.into_owned(),
            rule: alert.rule.into_owned(),
            severity: alert.severity,
            status: alert.status,
            description: alert.description.into_owned(),
        };
        self.transitions.insert(later, transition);
        self.transitions.truncate(TRANSITIONS);
        if alert.status.is_open() {
            self.open.insert(alert.alert_id.into_owned());
        } else {
            self.open.remove(alert.alert_id.as_ref());
        }
        Ok(())
    }

    /// So many events there are now. Nothing is known before the first.
    pub fn events(&mut self, now_ms: i64, events: u64) {
        if events > 0 {
            self.counted.push_back((now_ms, events));
        }
        while self.counted.len() > 2 && self.counted.front().is_some_and(|(at_ms, _)| now_ms - at_ms > RATE_MS) {
            self.counted.pop_front();
        }
    }

    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.counted.back().map_or(0, |(_, events)| *events)
    }

    /// Events a second, lately.
    #[must_use]
    pub fn event_rate(&self) -> u64 {
        let (Some((from_ms, before)), Some((to_ms, now))) = (self.counted.front(), self.counted.back()) else {
            return 0;
        };
        let took_ms = u64::try_from(to_ms - from_ms).unwrap_or(0);
        (now.saturating_sub(*before) * 1000).checked_div(took_ms).unwrap_or(0)
    }

    /// How many segments there are at each level, FREE_FLOW first, and at none.
    #[must_use]
    pub fn congestion(&self) -> ([usize; 5], usize) {
        let (mut counts, mut none) = ([0; 5], 0);
        for (window_end, level) in &self.levels {
            match level {
                Some(level) => counts[*level as usize] += 1,
                // Forecast, but not measured yet.
                None if *window_end == i64::MIN => {}
                None => none += 1,
            }
        }
        (counts, none)
    }

    #[must_use]
    pub fn open_alerts(&self) -> usize {
        self.open.len()
    }

    fn segment(&mut self, id: &str) -> u32 {
        if let Some(known) = self.segments.get(id) {
            return *known;
        }
        let number = u32::try_from(self.levels.len()).expect("fewer than 4 billion segments");
        self.levels.push((i64::MIN, None));
        self.segments.insert(id.into(), number);
        number
    }

    /// What was scored stays so.
    fn forget(&mut self) {
        while self.cells.len() > CELLS {
            self.cells.pop_first();
        }
    }
}

impl Errors {
    fn add(&mut self, forecast: &Forecast, truth: f64) {
        self.scored += 1;
        self.forecast += (forecast.speed - truth).abs();
        self.last += (forecast.last - truth).abs();
        self.inside += u64::from(forecast.covers(truth));
    }

    /// A window was corrected.
    fn take_back(&mut self, forecast: &Forecast, truth: f64) {
        self.scored -= 1;
        self.forecast -= (forecast.speed - truth).abs();
        self.last -= (forecast.last - truth).abs();
        self.inside -= u64::from(forecast.covers(truth));
    }
}

impl Forecast {
    fn covers(&self, truth: f64) -> bool {
        (self.lower..=self.upper).contains(&truth)
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    pub fn aggregate(state: &mut State, segment: &str, window_end: i64, speed: Option<f64>) {
        let text = json!({"segment_id": segment, "window_end": window_end, "avg_speed": speed}).to_string();
        state.aggregate(text.as_bytes()).expect("an aggregate");
    }

    pub fn prediction(state: &mut State, target: i64, horizon: u32, speed: f64) {
        let bounds = json!({"speed_lower": speed - 5.0, "speed_upper": speed + 5.0});
        let text = json!({"segment_id": "A", "prediction_horizon": horizon, "target_timestamp": target,
            "predicted_speed": speed, "current_speed": 90.0, "uncertainty_bounds": bounds});
        state.prediction(text.to_string().as_bytes()).expect("a forecast");
    }

    pub fn alert(state: &mut State, id: &str, at_ms: i64, status: AlertStatus) {
        let text = json!({"alert_id": id, "sequence": 1, "segment_id": "SEG_7", "rule": "predicted-congestion",
            "alert_type": "CONGESTION", "severity": "HIGH", "status": status, "timestamp": at_ms, "opened_at": at_ms,
            "detection_source": "PREDICTION_MODEL", "description": "HEAVY within 15 min\u{1b}[2J with a probability of 83 %"});
        state.alert(text.to_string().as_bytes()).expect("an alert");
    }

    #[test]
    fn a_forecast_is_scored_whichever_comes_first_and_again_when_its_window_is_corrected() {
        let mut state = State::default();
        prediction(&mut state, 1000, 15, 60.0);
        assert_eq!(state.errors[&15], Errors::default(), "nothing has come true yet");
        aggregate(&mut state, "A", 1000, Some(70.0));
        assert_eq!(state.errors[&15], Errors { scored: 1, forecast: 10.0, last: 20.0, inside: 0 });
        aggregate(&mut state, "A", 1000, Some(64.0));
        let corrected = Errors { scored: 1, forecast: 4.0, last: 26.0, inside: 1 };
        assert_eq!(state.errors[&15], corrected);
        prediction(&mut state, 1000, 30, 60.0);
        assert_eq!(state.errors[&30], corrected);
        aggregate(&mut state, "A", 1000, None);
        assert_eq!((state.errors[&15].scored, state.errors[&30].scored), (0, 0));
    }

    #[test]
    fn the_oldest_windows_are_forgotten_and_their_scores_stay() {
        let mut state = State::default();
        prediction(&mut state, 0, 15, 60.0);
        aggregate(&mut state, "A", 0, Some(60.0));
        for window_end in 1..=100_000 {
            aggregate(&mut state, "A", window_end, Some(60.0));
        }
        assert_eq!((state.cells.len(), state.errors[&15].scored), (CELLS, 1));
        assert!(!state.cells.contains_key(&(0, 0)));
    }

    #[test]
    fn a_segment_counts_at_the_level_of_its_newest_window() {
        let mut state = State::default();
        aggregate(&mut state, "A", 2000, Some(10.0));
        aggregate(&mut state, "A", 1000, Some(100.0));
        aggregate(&mut state, "B", 1000, Some(80.0));
        aggregate(&mut state, "C", 1000, None);
        prediction(&mut state, 3000, 15, 60.0);
        assert_eq!(state.congestion(), ([1, 0, 0, 0, 1], 1));
        assert_eq!(state.reached_ms, Some(2000));
    }

    #[test]
    fn alerts_are_open_until_they_end_and_the_newest_transitions_are_kept_in_order() {
        let mut state = State::default();
        for at_ms in [3, 1, 2, 7, 5, 6, 4] {
            alert(&mut state, &format!("ALERT_{at_ms}"), at_ms, AlertStatus::Active);
        }
        alert(&mut state, "ALERT_3", 8, AlertStatus::Resolved);
        alert(&mut state, "ALERT_4", 8, AlertStatus::Investigating);
        assert_eq!(state.open_alerts(), 6);
        let times: Vec<i64> = state.transitions.iter().map(|t| t.at_ms).collect();
        assert_eq!(times, [8, 8, 7, 6, 5, 4]);
        assert_eq!(state.transitions[0].status, AlertStatus::Investigating, "of the same time, the later one");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut state = State::default();
        state.events(0, 0);
        for second in 1..=20 {
            state.events(second * 1000, if second < 10 { 1_000_000 } else { 1_000_000 + 500 * second.unsigned_abs() });
        }
        assert_eq!((state.event_count(), state.event_rate()), (1_010_000, 500));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut state = State::default();
        assert!(state.aggregate(b"{}").is_err() && state.prediction(b"x").is_err() && state.alert(b"[]").is_err());
    }
}
