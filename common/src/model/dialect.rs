//! Every form that sensors send besides the canonical one: other names, units, nesting and times.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value};
use twox_hash::XxHash3_64;

use super::event::{Coordinates, Event, Invalid, KMH_PER_MPH, Normaliser, Volume, id, source};

type Object = Map<String, Value>;

impl Normaliser {
    pub(super) fn parse_dialect<'a>(&self, value: &[u8]) -> Result<Event<'a>, Invalid> {
        let payload: Value =
            serde_json::from_slice(value).map_err(|e| Invalid::new("value", format!("is no JSON: {e}")))?;
        let Value::Object(top) = &payload else { return Err(Invalid::new("value", "is no JSON object")) };
        let nested = |name: &str| top.get(name).and_then(Value::as_object);
        let (location, traffic, metadata) = (nested("location"), nested("traffic_data"), nested("metadata"));

        let sensor = text(Some(top), "sensor_id").or_else(|| text(location, "sensor_id"));
        let sensor = sensor.or_else(|| text(metadata, "sensor_id"));
        let segment = text(Some(top), "segment_id").or_else(|| text(location, "segment_id")).or(sensor.clone());
        let segment = segment.ok_or_else(|| Invalid::new("segment_id", "is missing, and there is no sensor_id"))?;
        let timestamp_ms = self.timestamp(top)?;
        let speed_kmh = self.speed(top, traffic)?;
        let volume = volume(top, traffic)?;
        let event_id = match text(Some(top), "event_id") {
            Some(given) => given,
            None => derived_id(&segment, sensor.as_deref(), timestamp_ms, speed_kmh, volume),
        };
        Event {
            event_id: id("event_id", Cow::Owned(event_id), 128)?,
            segment_id: id("segment_id", Cow::Owned(segment), 64)?,
            timestamp_ms,
            speed_kmh,
            volume,
            occupancy_percent: first_number(
                &[
                    (Some(top), &["occupancy", "occupancy_percent", "occupancy_percentage"]),
                    (traffic, &["occupancy_percentage", "occupancy_percent", "occupancy"]),
                ],
                "occupancy",
            )?,
            coordinates: coordinates(top, location)?,
            source: text(Some(top), "source").map_or(Ok("SENSOR"), |given| source(&given))?,
            quality_score: number(Some(top), "quality_score", "quality_score")?.unwrap_or(1.0),
        }
        .checked()
    }

    fn speed(&self, top: &Object, traffic: Option<&Object>) -> Result<Option<f64>, Invalid> {
        if let Some(kmh) = number(Some(top), "speed_kmh", "speed")? {
            return Ok(Some(kmh));
        }
        if let Some(mph) = first_number(&[(Some(top), &["speed_mph"]), (traffic, &["speed_mph"])], "speed")? {
            return Ok(Some(mph * KMH_PER_MPH));
        }
        Ok(first_number(&[(Some(top), &["speed"]), (traffic, &["speed"])], "speed")?.map(|s| self.speed_unit.to_kmh(s)))
    }

    fn timestamp(&self, top: &Object) -> Result<i64, Invalid> {
        let wrong = |what: String| Invalid::new("timestamp", what);
        match top.get("timestamp").or_else(|| top.get("event_time")) {
            None | Some(Value::Null) => Err(wrong("is missing".into())),
            Some(Value::Number(number)) => {
                if let Some(ms) = number.as_i64() {
                    return Ok(ms);
                }
                // A fraction: seconds, as Python's time.time() gives them.
                let seconds = number.as_f64().filter(|s| s.abs() < 1e10);
                #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
                seconds.map(|s| (s * 1000.0).round() as i64).ok_or_else(|| wrong(format!("{number} is no time")))
            }
            Some(Value::String(text)) => self.parse_time(text),
            Some(other) => Err(wrong(format!("{other} is no time"))),
        }
    }

    /// ISO 8601 with or without fraction and zone, `T` or a space between; without a zone, the configured one.
    fn parse_time(&self, text: &str) -> Result<i64, Invalid> {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(instant.as_millisecond());
        }
        let wrong = |what: &str| Invalid::new("timestamp", format!("{text:?} {what}"));
        let local: DateTime = text.parse().map_err(|_| wrong("is no time: ISO 8601 or epoch ms are allowed"))?;
        let instant = self.time_zone.to_ambiguous_timestamp(local);
        if matches!(instant.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
            return Err(wrong("does not exist: the clocks were put forward over it"));
        }
        // Where the clocks were put back, the first of the two.
        instant.compatible().map(Timestamp::as_millisecond).map_err(|_| wrong("is out of range"))
    }
}

fn text(object: Option<&Object>, name: &str) -> Option<String> {
    match object?.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(object: Option<&Object>, name: &str, field: &'static str) -> Result<Option<f64>, Invalid> {
    match object.and_then(|o| o.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(other) => Err(Invalid::new(field, format!("{other} is no number"))),
    }
}

fn first_number(places: &[(Option<&Object>, &[&str])], field: &'static str) -> Result<Option<f64>, Invalid> {
    for (object, names) in places {
        for name in *names {
            if let Some(value) = number(*object, name, field)? {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

/// `volume` is a count; the per-hour names are flow rates.
fn volume(top: &Object, traffic: Option<&Object>) -> Result<Option<Volume>, Invalid> {
    if let Some(count) = first_number(&[(Some(top), &["volume"]), (traffic, &["volume"])], "volume")? {
        if count.fract() != 0.0 || !(0.0..=10_000.0).contains(&count) {
            return Err(Invalid::new("volume", format!("{count} is no whole number of 0-10000")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        return Ok(Some(Volume::Count(count as u32)));
    }
    let names: &[&str] = &["volume_vph", "volume_vehicles_per_hour"];
    Ok(first_number(&[(Some(top), names), (traffic, names)], "volume")?.map(Volume::PerHour))
}

fn coordinates(top: &Object, location: Option<&Object>) -> Result<Option<Coordinates>, Invalid> {
    let nested = top.get("coordinates").and_then(Value::as_object);
    for place in [nested, location, Some(top)] {
        let latitude = number(place, "latitude", "coordinates.latitude")?;
        let longitude = number(place, "longitude", "coordinates.longitude")?;
        if let (Some(latitude), Some(longitude)) = (latitude, longitude) {
            return Ok(Some(Coordinates { latitude, longitude }));
        }
    }
    Ok(None)
}

/// The same reading sent twice gets the same id, wherever it lies in the log.
fn derived_id(
    segment: &str,
    sensor: Option<&str>,
    timestamp_ms: i64,
    speed: Option<f64>,
    volume: Option<Volume>,
) -> String {
    let what = format!("{segment}\0{}\0{timestamp_ms}\0{speed:?}\0{volume:?}", sensor.unwrap_or_default());
    format!("{:016x}", XxHash3_64::oneshot(what.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SpeedUnit;

    fn parse(json: &str) -> Result<Event<'_>, Invalid> {
        Normaliser::default().parse(json.as_bytes())
    }

    #[test]
    fn a_bare_speed_has_the_configured_unit_and_zero_is_a_stopped_road() {
        let mph = Normaliser { speed_unit: SpeedUnit::Mph, ..Normaliser::default() };
        let event =
            mph.parse(br#"{"segment_id":"LA_001","timestamp":1750000200000,"speed":50,"volume":3}"#).expect("valid");
        assert_eq!(event.speed_kmh, Some(50.0 * KMH_PER_MPH));
        assert_eq!(event.volume, Some(Volume::Count(3)));
        let stopped = parse(r#"{"segment_id":"LA_001","timestamp":1750000200000,"speed":0}"#).expect("valid");
        assert_eq!(stopped.speed_kmh, Some(0.0));
    }

    #[test]
    fn a_derived_id_depends_on_the_reading_alone() {
        let one = parse(r#"{"segment_id":"A","timestamp":1750000200000,"speed":1}"#).expect("valid").event_id;
        let same = parse(r#"{"speed":1,"timestamp":1750000200000,"segment_id":"A"}"#).expect("valid").event_id;
        let other = parse(r#"{"segment_id":"A","timestamp":1750000200000,"speed":2}"#).expect("valid").event_id;
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn local_times_follow_the_zone() {
        let los_angeles = jiff::tz::TimeZone::get("America/Los_Angeles").expect("bundled");
        let local = Normaliser { time_zone: los_angeles, ..Normaliser::default() };
        let at = |time: &str| local.parse_time(time);
        assert_eq!(at("2012-03-01 00:00:00"), Ok(1_330_588_800_000));
        assert_eq!(at("2012-03-01T00:00:00Z"), Ok(1_330_560_000_000));
        // 2012-11-04 01:30 happened twice: the first, at UTC-7.
        assert_eq!(at("2012-11-04T01:30:00"), Ok(1_352_017_800_000));
        // 2012-03-11 02:30 did not happen.
        assert!(at("2012-03-11T02:30:00").expect_err("gap").problem.contains("does not exist"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, reason) in [
            ("", "value: is no JSON"),
            ("[]", "value: is no JSON object"),
            (r#"{"timestamp":1750000200000}"#, "segment_id: is missing"),
            (r#"{"segment_id":"A"}"#, "timestamp: is missing"),
            (r#"{"segment_id":"A","timestamp":"yesterday"}"#, "timestamp: \"yesterday\" is no time"),
            (r#"{"segment_id":"A","timestamp":1750000200000,"speed":-5}"#, "speed: -5 is outside 0-200 km/h"),
            (r#"{"segment_id":"A","timestamp":1750000200000,"speed_mph":125}"#, "speed: 201.168 is outside"),
            (r#"{"segment_id":"A","timestamp":1750000200000,"speed":"fast"}"#, "speed: \"fast\" is no number"),
            (r#"{"segment_id":"A","timestamp":1750000200000,"volume":1.5}"#, "volume: 1.5 is no whole number"),
            (r#"{"segment_id":"A","timestamp":1750000200}"#, "timestamp: 1750000200 is outside"),
        ] {
            let error = parse(json).expect_err(json).to_string();
            assert!(error.starts_with(reason), "{json}: {error}");
        }
    }
}
