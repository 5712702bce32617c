//! Whether a model still does what it did on the days held out.

use std::collections::BTreeMap;

use common::clock::has_passed;

use crate::frames::Score;
use crate::live::{HeldOut, Live};

/// Fewer forecasts than this in the last day prove nothing.
const ENOUGH: f64 = 1_000.0;
/// A live error of so many times the held-out one is more than a bad day.
const DRIFTED: f64 = 1.3;
/// The same is said again after an hour.
const AGAIN_MS: i64 = 3_600_000;

/// What is wrong with a model's forecasts. Mean absolute errors, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drift {
    /// They are off by more than [`DRIFTED`] times what they were on the days held out.
    Worse { live: f64, held_out: f64 },
    /// The last value is the better forecast.
    BelowPersistence { live: f64, last_value: f64 },
}

impl Drift {
    /// What `recent` shows of a model that did `held_out`, if it shows anything.
    #[must_use]
    pub fn of(recent: &Score, held_out: &HeldOut) -> Option<Self> {
        if recent.scored < ENOUGH {
            return None;
        }
        let (live, last_value) = (recent.error / recent.scored, recent.persistence_error / recent.scored);
        if live > last_value {
            return Some(Self::BelowPersistence { live, last_value });
        }
        // A day on which the last value errs more, too, is a harder day for everybody.
        let harder = (last_value / held_out.last_value.max(1e-9)).max(1.0);
        (live > DRIFTED * harder * held_out.model).then_some(Self::Worse { live, held_out: held_out.model })
    }
}

/// Tells of drift, each horizon's at most once an hour.
#[derive(Debug, Default)]
pub struct Watch {
    told_ms: BTreeMap<u32, i64>,
}

impl Watch {
    /// Metrics, and a warning where something is wrong.
    pub fn look(&mut self, live: &Live, recent: &BTreeMap<u32, Score>, now_ms: i64) {
        for held_out in &live.held_out {
            let Some(score) = recent.get(&held_out.horizon) else { continue };
            gauge("held_out", held_out.horizon, held_out.model);
            if score.scored > 0.0 {
                gauge("live", held_out.horizon, score.error / score.scored);
                gauge("last_value", held_out.horizon, score.persistence_error / score.scored);
            }
            let drift = Drift::of(score, held_out);
            let horizon = held_out.horizon;
            metrics::gauge!("traffic_model_drifts", "horizon" => horizon.to_string()).set(u8::from(drift.is_some()));
            let told = self.told_ms.get(&horizon);
            if let Some(drift) = drift.filter(|_| told.is_none_or(|then_ms| has_passed(AGAIN_MS, *then_ms, now_ms))) {
                self.told_ms.insert(horizon, now_ms);
                warn(&live.version, horizon, drift);
            }
        }
    }
}

fn gauge(of: &'static str, horizon: u32, mae_kmh: f64) {
    metrics::gauge!("traffic_model_mae_kmh", "of" => of, "horizon" => horizon.to_string()).set(mae_kmh);
}

fn warn(version: &str, horizon: u32, drift: Drift) {
    const REMEDY: &str = "if traffic has changed, `traffic train` fits a new model; if the model is at fault, \
                          `traffic model rollback` goes back to the one before";
    match drift {
        Drift::Worse { live, held_out } => tracing::warn!(
            version,
            horizon,
            live_mae_kmh = live,
            held_out_mae_kmh = held_out,
            "forecasts of {version} for {horizon} minutes ahead were off by {live:.1} km/h in the last day, {:.1} times \
             what they were on the days held out: {REMEDY}",
            live / held_out.max(1e-9)
        ),
        Drift::BelowPersistence { live, last_value } => tracing::warn!(
            version,
            horizon,
            live_mae_kmh = live,
            last_value_mae_kmh = last_value,
            "forecasts of {version} for {horizon} minutes ahead were off by {live:.1} km/h in the last day, and the last \
             value by {last_value:.1}: {REMEDY}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_OUT: HeldOut = HeldOut { horizon: 30, model: 4.0, last_value: 6.0 };

    fn recent(scored: f64, live: f64, last_value: f64) -> Score {
        Score { scored, error: scored * live, persistence_error: scored * last_value }
    }

    #[test]
    fn a_model_that_does_as_it_did_does_not_drift() {
        assert_eq!(Drift::of(&recent(5_000.0, 5.0, 6.5), &HELD_OUT), None);
        // Too few to tell.
        assert_eq!(Drift::of(&recent(900.0, 50.0, 6.0), &HELD_OUT), None);
        // Snow: everybody errs twice as much.
        assert_eq!(Drift::of(&recent(5_000.0, 8.0, 12.0), &HELD_OUT), None);
    }

    #[test]
    fn one_that_errs_more_than_it_did_drifts() {
        let drift = Drift::of(&recent(5_000.0, 5.5, 6.0), &HELD_OUT);
        assert_eq!(drift, Some(Drift::Worse { live: 5.5, held_out: 4.0 }));
        let drift = Drift::of(&recent(5_000.0, 6.5, 6.0), &HELD_OUT);
        assert_eq!(drift, Some(Drift::BelowPersistence { live: 6.5, last_value: 6.0 }));
    }
}
