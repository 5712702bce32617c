//! Simulated incidents, the ground truth, beside what the flow made of them.

use std::collections::HashMap;

use super::summary::Finals;
use crate::simulate::{self, GeneratorConfig, Incident};

/// A queue grows upstream: so many segments, the incident's own among them, are looked at.
const REACH: usize = 4;
/// Below this a road is congested, km/h: where the default rule's alerts open.
const CONGESTED_KMH: f64 = 40.0;
/// Congestion of fewer windows in one place is not what an alert is for.
const CONGESTED_WINDOWS: usize = 3;
const WINDOW_MS: i64 = 300_000;
/// A queue is there for a while after what made it is gone; congestion and alerts until then count.
const AFTERMATH_MS: i64 = 900_000;

/// A time in which an alert was open: event time, epoch ms.
pub struct Open {
    pub from_ms: i64,
    pub until_ms: i64,
}

/// How many incidents there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub incidents: u64,
    /// With three windows or more below 40 km/h on one of their segment and the three upstream of it, between their
    /// begin and a quarter of an hour after their end.
    pub congested: u64,
    /// Of the congested ones, those with an alert open on one of these segments in that time.
    pub alerted: u64,
}

/// Looks for all incidents that had begun by the last window of `finals`; `alerts`: of congestion, by segment.
pub fn find(config: &GeneratorConfig, finals: &Finals, alerts: &HashMap<String, Vec<Open>>) -> Found {
    let until_ms = finals.keys().map(|(_, end_ms)| *end_ms).max().unwrap_or(config.start_ms);
    let mut found = Found::default();
    for Incident { segment_id, begin_ms, end_ms, .. } in simulate::incidents(config, until_ms) {
        let (begin_ms, end_ms) = (begin_ms.max(config.start_ms), (end_ms + AFTERMATH_MS).min(until_ms));
        let places = simulate::upstream(config, &segment_id, REACH);
        let slow = |place: &String| {
            let first = begin_ms.div_euclid(WINDOW_MS) + 1;
            let windows = (first..=end_ms.div_euclid(WINDOW_MS)).map(|window| window * WINDOW_MS);
            let speeds = windows.filter_map(|end| finals.get(&(place.clone(), end)).and_then(|(_, speed)| *speed));
            speeds.filter(|speed| *speed < CONGESTED_KMH).count() >= CONGESTED_WINDOWS
        };
        let alerted = |place: &String| {
            let open = alerts.get(place).map_or(&[][..], Vec::as_slice);
            open.iter().any(|open| open.from_ms <= end_ms && open.until_ms >= begin_ms)
        };
        found.incidents += 1;
        if places.iter().any(slow) {
            found.congested += 1;
            found.alerted += u64::from(places.iter().any(alerted));
        }
    }
    found
}
