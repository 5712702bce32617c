//! What holds for every payload whatsoever. The fuzzer looks for one where it does not; every test run
//! checks what the fuzzer has found interesting so far.

use std::sync::LazyLock;

use jiff::tz::TimeZone;

use super::event::{
    EVENT_ID_MAX, Event, LATITUDE, LONGITUDE, Normaliser, OCCUPANCY_PERCENT, QUALITY, SEGMENT_ID_MAX, SOURCES,
    SPEED_KMH, SpeedUnit, TIMESTAMP_MS, VOLUME, Volume, is_id, within,
};
use super::{canonical, dialect};

/// Both units; a zone without clock changes and one with.
static SETTINGS: LazyLock<[Normaliser; 2]> = LazyLock::new(|| {
    let los_angeles = TimeZone::get("America/Los_Angeles").expect("the zone is bundled");
    [Normaliser::default(), Normaliser { speed_unit: SpeedUnit::Mph, time_zone: los_angeles }]
});

/// Parses a payload under several settings.
///
/// # Panics
/// If anything that must hold does not, or the parser itself panics.
pub fn check(payload: &[u8]) {
    for settings in SETTINGS.iter() {
        let parsed = settings.parse(payload);
        assert_eq!(parsed, settings.parse(payload), "parsing twice");
        both_paths_agree(payload, settings);
        if let Ok(event) = parsed {
            in_range(&event);
            survives_writing(&event);
        }
    }
}

/// The fast path accepts nothing but what the general path accepts as the same event.
fn both_paths_agree(payload: &[u8], settings: &Normaliser) {
    let Ok(text) = std::str::from_utf8(payload) else { return };
    if let Some((event, _)) = canonical::scan(text, settings.speed_unit) {
        assert_eq!(Ok(event), dialect::parse(text, settings), "fast and general path");
    }
}

fn in_range(event: &Event<'_>) {
    assert!(is_id(&event.event_id) && event.event_id.len() <= EVENT_ID_MAX, "{event:?}");
    assert!(is_id(&event.segment_id) && event.segment_id.len() <= SEGMENT_ID_MAX, "{event:?}");
    assert!((TIMESTAMP_MS.0..=TIMESTAMP_MS.1).contains(&event.timestamp_ms), "{event:?}");
    let flow = event.volume.map(|volume| match volume {
        Volume::Count(count) => f64::from(count),
        Volume::PerHour(flow) => flow,
    });
    let numbers = [
        (event.speed_kmh, SPEED_KMH),
        (flow, VOLUME),
        (event.occupancy_percent, OCCUPANCY_PERCENT),
        (event.coordinates.map(|at| at.latitude), LATITUDE),
        (event.coordinates.map(|at| at.longitude), LONGITUDE),
        (Some(event.quality_score), QUALITY),
    ];
    for (number, range) in numbers {
        let number = number.unwrap_or(range.0);
        // No range begins at a zero that may be negative.
        assert!(within(number, range) && (number != 0.0 || number.is_sign_positive()), "{event:?}");
    }
    assert!(SOURCES.contains(&event.source), "{event:?}");
}

/// The canonical form of an event means that event, to the last bit.
fn survives_writing(event: &Event<'_>) {
    let mut written = Vec::new();
    event.write_json(&mut written);
    let read = Normaliser::default().parse(&written);
    assert_eq!(read.as_ref(), Ok(event), "written as {}", String::from_utf8_lossy(&written));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn they_hold_for_whatever_the_fuzzer_has_found() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/event");
        let mut checked = 0;
        for entry in std::fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display())) {
            let path = entry.expect("an entry").path();
            let payload = std::fs::read(&path).expect("readable");
            let outcome = std::panic::catch_unwind(|| check(&payload));
            assert!(outcome.is_ok(), "{}", path.display());
            checked += 1;
        }
        assert!(checked > 100, "{checked} payloads only");
    }
}
