//! Which table and hour a record belongs to, and whether the columns say everything it said.

use std::borrow::Cow;

use serde::Deserialize;

use super::layout::{Hour, Table};
use crate::model::{Coordinates, Event, Normaliser, Volume};
use crate::stream::Record;

/// 2000-01-01T00:00Z: no sensor of ours is older, a clock that was never set is.
const EARLIEST_MS: i64 = 946_684_800_000;

/// A record's place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Placed<'a> {
    Event {
        event: Event<'a>,
        /// Whether the event's columns say all that the payload said, so that it need not be kept.
        complete: bool,
    },
    Rejected {
        reason: String,
    },
}

impl Placed<'_> {
    pub(super) fn home(&self, record: &Record<'_>) -> (Table, Hour) {
        match self {
            Self::Event { event, .. } => (Table::Raw, Hour::of_ms(event.timestamp_ms)),
            Self::Rejected { .. } => (Table::Rejected, Hour::of_ms(record.timestamp_ms)),
        }
    }
}

/// Decides by the record alone: reading it again decides the same.
pub(super) fn classify<'a>(normaliser: &Normaliser, record: &Record<'a>) -> Placed<'a> {
    let Some(payload) = record.value else { return Placed::Rejected { reason: "no value".to_owned() } };
    let checked = normaliser.parse(payload).and_then(|event| {
        event.check_not_ahead(record.timestamp_ms)?;
        Ok(event)
    });
    match checked {
        Ok(event) if event.timestamp_ms < EARLIEST_MS => {
            Placed::Rejected { reason: format!("timestamp: {} is before the year 2000", event.timestamp_ms) }
        }
        Ok(event) => {
            let complete = says_all(payload, &event);
            Placed::Event { event, complete }
        }
        Err(invalid) => Placed::Rejected { reason: invalid.to_string() },
    }
}

/// Whether a payload is a canonical event with no field beyond those that have a column.
fn says_all(payload: &[u8], event: &Event<'_>) -> bool {
    let Ok(said) = serde_json::from_slice::<Canonical<'_>>(payload) else { return false };
    let coordinates = |c: Position| Coordinates { latitude: c.latitude, longitude: c.longitude };
    said.event_id == event.event_id
        && said.segment_id == event.segment_id
        && said.timestamp == event.timestamp_ms
        && said.speed == event.speed_kmh
        && said.volume.map(Volume::Count) == event.volume
        && said.occupancy == event.occupancy_percent
        && said.coordinates.map(coordinates) == event.coordinates
        && said.source == event.source
        && said.quality_score == event.quality_score
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canonical<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    segment_id: Cow<'a, str>,
    timestamp: i64,
    #[serde(default)]
    speed: Option<f64>,
    #[serde(default)]
    volume: Option<u32>,
    #[serde(default)]
    occupancy: Option<f64>,
    #[serde(default)]
    coordinates: Option<Position>,
    source: Cow<'a, str>,
    quality_score: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    latitude: f64,
    longitude: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StoredRecord;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn placed(value: Option<&str>) -> (Placed<'static>, Table) {
        let record = StoredRecord {
            timestamp_ms: NOW_MS,
            value: value.map(|v| v.as_bytes().to_vec()),
            ..StoredRecord::default()
        };
        let record = record.as_record();
        let placed = classify(&Normaliser::default(), &record);
        let table = placed.home(&record).0;
        let placed = match placed {
            Placed::Event { complete, .. } => Placed::Rejected { reason: format!("an event, complete: {complete}") },
            Placed::Rejected { reason } => Placed::Rejected { reason },
        };
        (placed, table)
    }

    fn event(timestamp: i64, more: &str) -> String {
        format!(
            r#"{{"event_id":"E1","segment_id":"S1","timestamp":{timestamp},"speed":61.5,"volume":7,"occupancy":12.25,
                "coordinates":{{"latitude":34.05,"longitude":-118.24}},"source":"SENSOR","quality_score":0.9{more}}}"#
        )
    }

    fn reason(value: Option<&str>) -> String {
        match placed(value) {
            (Placed::Rejected { reason }, _) => reason,
            (Placed::Event { .. }, _) => unreachable!("`placed` tells of events as a reason"),
        }
    }

    #[test]
    fn a_canonical_event_needs_no_payload_and_anything_more_does() {
        assert_eq!(reason(Some(&event(NOW_MS, ""))), "an event, complete: true");
        assert_eq!(reason(Some(&event(NOW_MS, r#","metadata":{"lanes":"4"}"#))), "an event, complete: false");
    }

    #[test]
    fn what_is_no_event_of_this_time_is_rejected() {
        assert_eq!(reason(None), "no value");
        assert_eq!(placed(Some("{")).1, Table::Rejected);
        let early = event(EARLIEST_MS - 1, "");
        assert!(reason(Some(&early)).contains("timestamp"), "{}", reason(Some(&early)));
        let ahead = event(NOW_MS + 300_001, "");
        assert!(reason(Some(&ahead)).contains("timestamp"), "{}", reason(Some(&ahead)));
        assert_eq!(reason(Some(&event(NOW_MS + 300_000, ""))), "an event, complete: true");
    }
}
