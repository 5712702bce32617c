//! `predicted-congestion`: the forecast for one horizon says that speed will probably be low.
//!
//! The rule's time is that of the frames: the newest `prediction_timestamp` of its horizon. The predictor writes a
//! partition's frames one after the other, so a forecast older than the newest frame is late and changes nothing.
//! Only segments with something going on have an episode.

use common::model::prediction::probability_below;
use common::model::{AlertStatus, CongestionLevel, Severity};

use crate::episode::{Episode, Limits, Sight};
use crate::input::Forecast;
use crate::settings::{PredictedCongestion, Rule};
use crate::silences::Silences;
use crate::table::{Table, Time};
use crate::voice::{Voice, Words, minutes};

/// A condition that was not seen for longer than two frames may have ceased meanwhile: it has to hold anew.
const GAP_MS: i64 = 10 * 60_000;

/// How much a predicted level matters.
fn severity_of(level: CongestionLevel) -> Severity {
    match level {
        CongestionLevel::FreeFlow | CongestionLevel::Light => Severity::Low,
        CongestionLevel::Moderate => Severity::Medium,
        CongestionLevel::Heavy => Severity::High,
        CongestionLevel::Severe => Severity::Critical,
    }
}

/// A forecast of the rule's horizon; `false` if it is late.
pub fn forecast(
    rule: &Rule,
    set: &PredictedCongestion,
    table: &mut Table,
    silences: &Silences,
    forecast: &Forecast<'_>,
    voice: &mut Voice<'_>,
) -> bool {
    let (at_ms, segment) = (forecast.prediction_timestamp, &*forecast.segment_id);
    let now_ms = table.time().now_ms;
    if at_ms < now_ms {
        return false;
    }
    if at_ms > now_ms {
        advance(rule, table, at_ms, voice);
    }
    let low = probability_below(&forecast.speed_quantiles, set.open_below_kmh);
    let not_high = probability_below(&forecast.speed_quantiles, set.close_below_kmh);
    let sight = Sight {
        at_ms,
        opens: low >= set.open_probability,
        closes: not_high < set.close_probability,
        severity: severity_of(forecast.predicted_congestion_level),
    };
    let known = table.get(segment).copied();
    if known.is_none() && !sight.opens {
        return true;
    }
    let mut episode = known.unwrap_or_default();
    (episode.heard_ms, episode.place) = (at_ms, forecast.coordinates.or(episode.place));
    let limits =
        Limits { open_for_ms: set.open_for_ms, close_for_ms: set.close_for_ms, reopen_after_ms: rule.reopen_after_ms };
    if let Some(said) = episode.look(&sight, &limits, || silences.cover(segment, &rule.name, at_ms)) {
        let (ended, probability) = (!said.status.is_open(), if said.status.is_open() { low } else { not_high });
        let threshold = if ended { set.close_below_kmh } else { set.open_below_kmh };
        let description = format!(
            "{} in {} min: {:.0} km/h, below {threshold} km/h with a probability of {:.0} %",
            if ended { "Congestion is no longer forecast" } else { "Congestion is forecast" },
            set.horizon_minutes,
            forecast.predicted_speed,
            100.0 * probability,
        );
        let (value, threshold) = (Some(forecast.predicted_speed), Some(threshold));
        let words = Words { description, value, threshold, confidence: Some(probability), by: None };
        voice.say(rule, segment, episode.place, &said, &words);
    }
    if !episode.is_idle(at_ms, rule.reopen_after_ms) {
        table.put(segment, episode);
    } else if known.is_some() {
        table.remove(&rule.state_name, segment, voice);
    }
    true
}

/// A new frame begins: what the last ones did not speak of is interrupted, or given up.
fn advance(rule: &Rule, table: &mut Table, to_ms: i64, voice: &mut Voice<'_>) {
    table.set_time(Time { now_ms: to_ms, ..table.time() });
    table.sweep(&rule.state_name, voice, |segment, episode: &mut Episode, voice| {
        let unheard_ms = to_ms - episode.heard_ms;
        if unheard_ms > GAP_MS {
            episode.interrupt();
        }
        if unheard_ms >= rule.forget_ms
            && let Some(said) = episode.end(to_ms, AlertStatus::Resolved)
        {
            let words = Words::only(format!("Not forecast for {}: no longer known", minutes(unheard_ms)));
            voice.say(rule, segment, episode.place, &said, &words);
        }
        !episode.is_idle(to_ms, rule.reopen_after_ms)
    });
}
