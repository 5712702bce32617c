//! The general path: every dialect that sensors speak, and the reason where a payload is none.
//!
//! | meaning | fields, the first that holds a value counts |
//! |---|---|
//! | segment | `segment_id`, `location.segment_id`, `sensor_id`, `location.sensor_id`, `metadata.sensor_id` |
//! | time | `timestamp`: epoch ms, epoch seconds with a decimal point, or text (`time.rs`) |
//! | speed | `speed_kmh`, `speed_mph`, `traffic_data.speed_kmh`, `traffic_data.speed_mph`; in the configured unit `traffic_data.speed`, `speed` |
//! | volume, a count | `volume`, `traffic_data.volume` |
//! | volume, a flow per hour | `volume_vph`, `volume_vehicles_per_hour`, both also in `traffic_data` |
//! | occupancy, percent | `occupancy`, `occupancy_percent`, `occupancy_percentage`, all also in `traffic_data` |
//! | coordinates | `coordinates`, `location.coordinates`, `location`, the top level |
//!
//! Null and absent mean the same, and so does an empty id. A field listed above that occurs twice in one
//! object is invalid; fields nobody reads only have to be JSON.

use std::borrow::Cow;

use twox_hash::XxHash3_64;

use super::event::{
    Coordinates, DEFAULT_QUALITY, DEFAULT_SOURCE, EVENT_ID_MAX, Event, Invalid, LATITUDE, LONGITUDE, Normaliser,
    OCCUPANCY_PERCENT, QUALITY, SEGMENT_ID_MAX, SOURCES, SPEED_KMH, SpeedUnit, TIMESTAMP_MS, VOLUME, Volume, is_id,
    is_id_byte, within,
};
use super::fields::{Fields, Scalar, Slot};
use super::time::parse_time;

const SEGMENT: [Slot; 5] =
    [Slot::SegmentId, Slot::LocationSegmentId, Slot::SensorId, Slot::LocationSensorId, Slot::MetadataSensorId];
const SENSOR: [Slot; 3] = [Slot::SensorId, Slot::LocationSensorId, Slot::MetadataSensorId];
const COUNT: [Slot; 2] = [Slot::Volume, Slot::TrafficVolume];
const FLOW: [Slot; 4] =
    [Slot::VolumeVph, Slot::VolumeVehiclesPerHour, Slot::TrafficVolumeVph, Slot::TrafficVolumeVehiclesPerHour];
const OCCUPANCY: [Slot; 6] = [
    Slot::Occupancy,
    Slot::OccupancyPercent,
    Slot::OccupancyPercentage,
    Slot::TrafficOccupancy,
    Slot::TrafficOccupancyPercent,
    Slot::TrafficOccupancyPercentage,
];
const POSITION: [(Slot, Slot); 4] = [
    (Slot::CoordinatesLatitude, Slot::CoordinatesLongitude),
    (Slot::LocationCoordinatesLatitude, Slot::LocationCoordinatesLongitude),
    (Slot::LocationLatitude, Slot::LocationLongitude),
    (Slot::Latitude, Slot::Longitude),
];

/// Epoch seconds that are valid: those of the valid milliseconds.
const TIMESTAMP_S: (f64, f64) = (1e9, 9_999_999_999.999);

/// Longest piece of a rejected text that is quoted, characters.
const QUOTE_MAX: usize = 60;

/// The event that `text` means.
pub(super) fn parse<'a>(text: &'a str, rules: &Normaliser) -> Result<Event<'a>, Invalid> {
    let fields = Fields::read(text)?;
    let Some(segment_id) = id(&fields, &SEGMENT, SEGMENT_ID_MAX)? else {
        return Err(Invalid::new("segment_id", "missing, and so are its substitutes (sensor_id, location, metadata)"));
    };
    let timestamp_ms = timestamp_ms(&fields, rules)?;
    let speed_kmh = speed_kmh(&fields, rules.speed_unit)?;
    let volume = volume(&fields)?;
    let event_id = match id(&fields, &[Slot::EventId], EVENT_ID_MAX)? {
        Some(event_id) => event_id,
        None => Cow::Owned(derived_id(&segment_id, &fields, timestamp_ms, speed_kmh, volume)?),
    };
    Ok(Event {
        event_id,
        segment_id,
        timestamp_ms,
        speed_kmh,
        volume,
        occupancy_percent: first(&fields, &OCCUPANCY)?
            .map(|(s, v)| ranged(s, v, OCCUPANCY_PERCENT, "%"))
            .transpose()?,
        coordinates: coordinates(&fields)?,
        source: source(&fields)?,
        quality_score: number(&fields, Slot::QualityScore)?
            .map_or(Ok(DEFAULT_QUALITY), |quality| ranged(Slot::QualityScore, quality, QUALITY, ""))?,
    })
}

/// An id of at most `max` characters. Characters outside an id's pattern become `_`.
fn id<'a>(fields: &Fields<'a>, slots: &[Slot], max: usize) -> Result<Option<Cow<'a, str>>, Invalid> {
    for slot in slots {
        let Some(raw) = raw_id(fields, *slot)? else { continue };
        let id = if is_id(&raw) { raw } else { Cow::Owned(raw.chars().map(id_char).collect()) };
        if id.len() > max {
            return Err(Invalid::new(slot.path(), format!("{} characters long, at most {max} allowed", id.len())));
        }
        return Ok(Some(id));
    }
    Ok(None)
}

/// An id as it was written: text, or a whole number.
fn raw_id<'a>(fields: &Fields<'a>, slot: Slot) -> Result<Option<Cow<'a, str>>, Invalid> {
    match fields.get(slot) {
        Scalar::Absent | Scalar::Null => Ok(None),
        Scalar::Text(text) if text.is_empty() => Ok(None),
        Scalar::Text(text) => Ok(Some(text.clone())),
        Scalar::Integer(number) => Ok(Some(Cow::Owned(number.to_string()))),
        other => Err(wrong_type(slot, "a string", other)),
    }
}

fn id_char(c: char) -> char {
    if u8::try_from(c).is_ok_and(is_id_byte) { c } else { '_' }
}

/// The id of an event that has none: the same reading always gets the same, wherever it is stored.
fn derived_id(
    segment_id: &str,
    fields: &Fields<'_>,
    timestamp_ms: i64,
    speed_kmh: Option<f64>,
    volume: Option<Volume>,
) -> Result<String, Invalid> {
    let mut sensor = Cow::Borrowed("");
    for slot in SENSOR {
        if let Some(id) = raw_id(fields, slot)? {
            sensor = id;
            break;
        }
    }
    let (kind, amount) = match volume {
        None => (0, 0),
        Some(Volume::Count(count)) => (1, u64::from(count)),
        Some(Volume::PerHour(flow)) => (2, flow.to_bits()),
    };
    let mut reading = Vec::with_capacity(segment_id.len() + sensor.len() + 28);
    for text in [segment_id, &sensor] {
        reading.extend_from_slice(text.as_bytes());
        // A byte that occurs in no text.
        reading.push(0xff);
    }
    reading.extend_from_slice(&timestamp_ms.to_le_bytes());
    reading.push(u8::from(speed_kmh.is_some()));
    reading.extend_from_slice(&speed_kmh.unwrap_or(0.0).to_bits().to_le_bytes());
    reading.push(kind);
    reading.extend_from_slice(&amount.to_le_bytes());
    Ok(format!("{:016x}", XxHash3_64::oneshot(&reading)))
}

fn timestamp_ms(fields: &Fields<'_>, rules: &Normaliser) -> Result<i64, Invalid> {
    let slot = Slot::Timestamp;
    let ms = match fields.get(slot) {
        Scalar::Absent => return Err(Invalid::new(slot.path(), "missing")),
        Scalar::Null => return Err(Invalid::new(slot.path(), "null")),
        Scalar::Integer(ms) => *ms,
        #[expect(clippy::cast_possible_truncation, reason = "in range: checked")]
        Scalar::Number(seconds) if within(*seconds, TIMESTAMP_S) => (*seconds * 1000.0).round() as i64,
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is checked below")]
        Scalar::Number(ms) => *ms as i64,
        Scalar::Text(text) => parse_time(text, &rules.time_zone)
            .map_err(|problem| Invalid::new(slot.path(), format!("{}: {problem}", quoted(text))))?,
        other => return Err(wrong_type(slot, "a number or a string", other)),
    };
    if (TIMESTAMP_MS.0..=TIMESTAMP_MS.1).contains(&ms) {
        return Ok(ms);
    }
    let (low, high) = TIMESTAMP_MS;
    Err(Invalid::new(slot.path(), format!("{ms} is outside {low} to {high} ms; seconds need a decimal point")))
}

fn speed_kmh(fields: &Fields<'_>, bare: SpeedUnit) -> Result<Option<f64>, Invalid> {
    let candidates = [
        (Slot::SpeedKmh, SpeedUnit::Kmh),
        (Slot::SpeedMph, SpeedUnit::Mph),
        (Slot::TrafficSpeedKmh, SpeedUnit::Kmh),
        (Slot::TrafficSpeedMph, SpeedUnit::Mph),
        (Slot::TrafficSpeed, bare),
        (Slot::Speed, bare),
    ];
    for (slot, unit) in candidates {
        let Some(speed) = number(fields, slot)? else { continue };
        let kmh = unit.to_kmh(speed);
        if within(kmh, SPEED_KMH) {
            return Ok(Some(kmh + 0.0));
        }
        let (low, high) = SPEED_KMH;
        let value = match unit {
            SpeedUnit::Kmh => format!("{speed} km/h"),
            SpeedUnit::Mph => format!("{speed} mph ({kmh} km/h)"),
        };
        return Err(Invalid::new(slot.path(), format!("{value} is outside {low} to {high} km/h")));
    }
    Ok(None)
}

fn volume(fields: &Fields<'_>) -> Result<Option<Volume>, Invalid> {
    if let Some((slot, count)) = first(fields, &COUNT)? {
        let count = ranged(slot, count, VOLUME, "vehicles")?;
        if count.fract() != 0.0 {
            return Err(Invalid::new(slot.path(), format!("{count} is no whole number of vehicles")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range: checked")]
        return Ok(Some(Volume::Count(count as u32)));
    }
    let Some((slot, flow)) = first(fields, &FLOW)? else { return Ok(None) };
    Ok(Some(Volume::PerHour(ranged(slot, flow, VOLUME, "vehicles per hour")?)))
}

fn coordinates(fields: &Fields<'_>) -> Result<Option<Coordinates>, Invalid> {
    for (north, east) in POSITION {
        return match (number(fields, north)?, number(fields, east)?) {
            (None, None) => continue,
            (Some(latitude), Some(longitude)) => Ok(Some(Coordinates {
                latitude: ranged(north, latitude, LATITUDE, "degrees")?,
                longitude: ranged(east, longitude, LONGITUDE, "degrees")?,
            })),
            (None, Some(_)) => Err(Invalid::new(north.path(), "missing beside a longitude")),
            (Some(_), None) => Err(Invalid::new(east.path(), "missing beside a latitude")),
        };
    }
    Ok(None)
}

fn source(fields: &Fields<'_>) -> Result<&'static str, Invalid> {
    let slot = Slot::Source;
    match fields.get(slot) {
        Scalar::Absent | Scalar::Null => Ok(DEFAULT_SOURCE),
        Scalar::Text(text) => SOURCES
            .into_iter()
            .find(|source| source == text)
            .ok_or_else(|| Invalid::new(slot.path(), format!("{} is none of {}", quoted(text), SOURCES.join(", ")))),
        other => Err(wrong_type(slot, "a string", other)),
    }
}

/// The first of these fields that holds a number.
fn first(fields: &Fields<'_>, slots: &[Slot]) -> Result<Option<(Slot, f64)>, Invalid> {
    for slot in slots {
        if let Some(value) = number(fields, *slot)? {
            return Ok(Some((*slot, value)));
        }
    }
    Ok(None)
}

fn number(fields: &Fields<'_>, slot: Slot) -> Result<Option<f64>, Invalid> {
    match fields.get(slot) {
        Scalar::Absent | Scalar::Null => Ok(None),
        #[expect(clippy::cast_precision_loss, reason = "far outside every range where it is inexact")]
        Scalar::Integer(number) => Ok(Some(*number as f64)),
        Scalar::Number(number) => Ok(Some(*number)),
        other => Err(wrong_type(slot, "a number", other)),
    }
}

/// The value, if it lies in its range. Nothing is clamped; only -0 becomes a plain 0.
fn ranged(slot: Slot, value: f64, range: (f64, f64), unit: &str) -> Result<f64, Invalid> {
    if within(value, range) {
        return Ok(value + 0.0);
    }
    let (low, high) = range;
    let space = if unit.is_empty() { "" } else { " " };
    Err(Invalid::new(slot.path(), format!("{value} is outside {low} to {high}{space}{unit}")))
}

fn wrong_type(slot: Slot, expected: &str, found: &Scalar<'_>) -> Invalid {
    let found = match found {
        Scalar::Text(text) => quoted(text),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Number(number) => number.to_string(),
        other => other.kind().to_owned(),
    };
    Invalid::new(slot.path(), format!("{found} is not {expected}"))
}

/// Foreign text, escaped and cut, for a message.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_ok(text: &str) -> Event<'_> {
        Normaliser::default().parse(text.as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn problem(text: &str) -> String {
        match Normaliser::default().parse(text.as_bytes()) {
            Ok(event) => panic!("{text}: accepted as {event:?}"),
            Err(problem) => problem.to_string(),
        }
    }

    /// An event with these further fields.
    fn with(fields: &str) -> String {
        format!(r#"{{"event_id":"e1","segment_id":"S1","timestamp":1759674600000,{fields}}}"#)
    }

    #[test]
    fn segment_order() {
        let cases = [
            (r#"{"timestamp":1759674600000,"metadata":{"sensor_id":"m"}}"#, "m"),
            (r#"{"timestamp":1759674600000,"metadata":{"sensor_id":"m"},"location":{"sensor_id":"ls"}}"#, "ls"),
            (r#"{"timestamp":1759674600000,"location":{"sensor_id":"ls"},"sensor_id":"s"}"#, "s"),
            (r#"{"timestamp":1759674600000,"sensor_id":"s","location":{"segment_id":"l"}}"#, "l"),
            (r#"{"timestamp":1759674600000,"sensor_id":"s","location":{"segment_id":"l"},"segment_id":"top"}"#, "top"),
            (
                r#"{"timestamp":1759674600000,"segment_id":null,"sensor_id":"","location":null,"metadata":{"sensor_id":"m"}}"#,
                "m",
            ),
            (r#"{"timestamp":1759674600000,"sensor_id":773869}"#, "773869"),
            (r#"{"timestamp":1759674600000,"sensor_id":"I-405 N/ü:\u0041"}"#, "I-405_N___A"),
        ];
        for (text, segment) in cases {
            assert_eq!(parse_ok(text).segment_id, segment, "{text}");
        }
    }

    #[test]
    fn times() {
        for time in ["1759674600000", "1759674600000.0", "1759674600.0", "\"2025-10-05T14:30:00\""] {
            let text = format!(r#"{{"segment_id":"S1","timestamp":{time}}}"#);
            assert_eq!(parse_ok(&text).timestamp_ms, 1_759_674_600_000, "{text}");
        }
        let text = r#"{"segment_id":"S1","timestamp":1759674600.123}"#;
        assert_eq!(parse_ok(text).timestamp_ms, 1_759_674_600_123);
        for time in [
            "0",
            "-1",
            "1759674600",
            "999999999999",
            "10000000000000",
            "1e300",
            "true",
            "[]",
            "{}",
            "null",
            "\"now\"",
            "\"\"",
        ] {
            let text = format!(r#"{{"segment_id":"S1","timestamp":{time}}}"#);
            assert!(problem(&text).starts_with("timestamp: "), "{text}");
        }
        assert_eq!(problem(r#"{"segment_id":"S1"}"#), "timestamp: missing");
    }

    #[test]
    fn speeds() {
        let cases = [
            (r#""speed_mph":60"#, Some(60.0 * 1.609_344)),
            (r#""speed_kmh":60,"speed_mph":10,"speed":5"#, Some(60.0)),
            (r#""speed_kmh":null,"traffic_data":{"speed_mph":10},"speed":5"#, Some(16.093_44)),
            (r#""speed":0"#, Some(0.0)),
            (r#""speed":-0.0"#, Some(0.0)),
            (r#""speed":200"#, Some(200.0)),
            (r#""speed":1.5e1"#, Some(15.0)),
            (r#""speed":null"#, None),
            (r#""speed_mph":124.274"#, Some(124.274 * 1.609_344)),
        ];
        for (fields, speed) in cases {
            let text = with(fields);
            assert_eq!(parse_ok(&text).speed_kmh, speed, "{text}");
        }
        let mph = Normaliser { speed_unit: SpeedUnit::Mph, ..Normaliser::default() };
        let text = with(r#""speed":60"#);
        assert_eq!(mph.parse(text.as_bytes()).map(|e| e.speed_kmh), Ok(Some(60.0 * 1.609_344)));
    }

    #[test]
    fn volumes() {
        let cases = [
            (r#""volume":7"#, Some(Volume::Count(7))),
            (r#""volume":7.0"#, Some(Volume::Count(7))),
            (r#""volume":0,"volume_vph":900"#, Some(Volume::Count(0))),
            (r#""volume":null,"volume_vph":900.5"#, Some(Volume::PerHour(900.5))),
            (r#""traffic_data":{"volume_vehicles_per_hour":2500}"#, Some(Volume::PerHour(2500.0))),
            (r#""volume_vph":null"#, None),
        ];
        for (fields, volume) in cases {
            let text = with(fields);
            assert_eq!(parse_ok(&text).volume, volume, "{text}");
        }
    }

    #[test]
    fn positions() {
        let here = Some(Coordinates { latitude: 34.05, longitude: -118.25 });
        let cases = [
            (r#""coordinates":{"latitude":34.05,"longitude":-118.25}"#, here),
            (r#""location":{"latitude":34.05,"longitude":-118.25,"mile_marker":3}"#, here),
            (r#""location":{"coordinates":{"latitude":34.05,"longitude":-118.25}}"#, here),
            (r#""latitude":34.05,"longitude":-118.25"#, here),
            (r#""coordinates":null,"latitude":34.05,"longitude":-118.25"#, here),
            (r#""coordinates":{}"#, None),
            (r#""latitude":null,"longitude":null"#, None),
        ];
        for (fields, coordinates) in cases {
            let text = with(fields);
            assert_eq!(parse_ok(&text).coordinates, coordinates, "{text}");
        }
    }

    #[test]
    fn out_of_range_says_what_is_allowed() {
        let cases = [
            (r#""speed":-5"#, "speed: -5 km/h is outside 0 to 200 km/h"),
            (r#""speed_mph":125"#, "speed_mph: 125 mph (201.168 km/h) is outside 0 to 200 km/h"),
            (r#""speed":"45""#, r#"speed: "45" is not a number"#),
            (r#""speed":true"#, "speed: a boolean is not a number"),
            (r#""volume":10001"#, "volume: 10001 is outside 0 to 10000 vehicles"),
            (r#""volume":1.5"#, "volume: 1.5 is no whole number of vehicles"),
            (r#""volume_vph":-1"#, "volume_vph: -1 is outside 0 to 10000 vehicles per hour"),
            (r#""occupancy":100.5"#, "occupancy: 100.5 is outside 0 to 100 %"),
            (r#""quality_score":1.1"#, "quality_score: 1.1 is outside 0 to 1"),
            (r#""coordinates":{"latitude":91,"longitude":0}"#, "coordinates.latitude: 91 is outside -90 to 90 degrees"),
            (r#""coordinates":{"latitude":1}"#, "coordinates.longitude: missing beside a latitude"),
            (r#""coordinates":[1,2]"#, "coordinates: an array is not an object"),
            (r#""traffic_data":7"#, "traffic_data: a number is not an object"),
            (r#""speed":1,"speed":1"#, "speed: there twice"),
            (r#""location":{"sensor_id":1,"sensor_id":1}"#, "location.sensor_id: there twice"),
            (
                r#""source":"RADAR""#,
                r#"source: "RADAR" is none of SENSOR, CAMERA, PROBE, INCIDENT_REPORT, WEATHER_STATION"#,
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(problem(&with(fields)), expected);
        }
        let long = "x".repeat(65);
        let text = format!(r#"{{"segment_id":"{long}","timestamp":1759674600000}}"#);
        assert_eq!(problem(&text), "segment_id: 65 characters long, at most 64 allowed");
        assert_eq!(
            problem(r#"{"timestamp":1759674600000}"#),
            "segment_id: missing, and so are its substitutes (sensor_id, location, metadata)"
        );
    }

    #[test]
    fn what_is_no_json_object() {
        let deep = with(&format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)));
        let deep_place = with(&format!(r#""metadata":{}"#, r#"{"a":"#.repeat(100_000)));
        let infinite = with(r#""speed":1e999"#);
        let not_a_number = with(r#""speed":NaN"#);
        let trailing = format!("{} x", with(r#""speed":1"#));
        let whole = with(r#""speed":1"#);
        let cases = [
            "",
            " ",
            "null",
            "7",
            "[]",
            r#""text""#,
            "{",
            "hello",
            &deep,
            &deep_place,
            &infinite,
            &not_a_number,
            &trailing,
        ];
        for text in cases {
            assert!(problem(text).starts_with("payload: "), "{}", &text[..text.len().min(80)]);
        }
        for cut in 1..whole.len() {
            assert!(problem(&whole[..cut]).starts_with("payload: "), "{}", &whole[..cut]);
        }
        let mut bytes = with(r#""x":"y""#).into_bytes();
        let at = bytes.len() - 3;
        bytes[at] = 0xff;
        let invalid = Normaliser::default().parse(&bytes).expect_err("0xff is no UTF-8");
        assert_eq!(invalid.to_string(), format!("payload: no UTF-8 after byte {at}"));
    }

    #[test]
    fn a_derived_id_depends_on_the_reading_alone() {
        let id = |text: &str| parse_ok(text).event_id.into_owned();
        let base = id(r#"{"segment_id":"S1","timestamp":1759674600000,"speed":50,"volume":3}"#);
        assert_eq!(base, "2ed1fb70798ce4f7");
        assert_eq!(
            base,
            id(r#"{"volume":3.0,"speed_kmh":5e1,"timestamp":"2025-10-05T14:30:00Z","segment_id":"S1","x":1}"#)
        );
        for other in [
            r#"{"segment_id":"S2","timestamp":1759674600000,"speed":50,"volume":3}"#,
            r#"{"segment_id":"S1","timestamp":1759674600001,"speed":50,"volume":3}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"speed":51,"volume":3}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"volume":3}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"speed":50,"volume":4}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"speed":50,"volume_vph":3}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"speed":50}"#,
            r#"{"segment_id":"S1","timestamp":1759674600000,"speed":50,"volume":3,"sensor_id":"a"}"#,
        ] {
            assert_ne!(base, id(other), "{other}");
        }
    }

    #[test]
    fn the_future_is_judged_by_the_record() {
        let text = with(r#""speed":1"#);
        let event = parse_ok(&text);
        assert_eq!(event.check_not_ahead(1_759_674_600_000 - 300_000), Ok(()));
        assert_eq!(event.check_not_ahead(i64::MAX), Ok(()));
        let problem = event.check_not_ahead(1_759_674_600_000 - 300_001).expect_err("too far ahead");
        assert_eq!(
            problem.to_string(),
            "timestamp: 1759674600000 is 300001 ms ahead of its record's timestamp 1759674299999, at most 300000 ms allowed"
        );
    }
}
