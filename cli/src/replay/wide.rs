//! Wide CSV: a row a step, a column a sensor.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use common::model::SpeedUnit;
use csv::{Position, StringRecord};

use super::{Key, ReplayArgs, Unit};
use crate::feed::{Item, Source};

pub struct Wide {
    rows: csv::Reader<File>,
    size: u64,
    row: StringRecord,
    column: usize,
    /// Of the row that is being given out, epoch ms.
    at_ms: i64,
    next_ms: i64,
    step_ms: i64,
    sensors: Vec<Sensor>,
    unit: SpeedUnit,
    zero_is_missing: bool,
    keyed: bool,
    value: Vec<u8>,
}

struct Sensor {
    id: String,
    segment: String,
    tail: String,
}

impl Wide {
    pub fn open(file: File, args: &ReplayArgs) -> Result<Self> {
        let Some(start) = args.start else {
            bail!("--start says when the first row was, like --start 2012-03-01T00:00:00")
        };
        let size = file.metadata()?.len();
        let mut rows = csv::ReaderBuilder::new().flexible(false).from_reader(file);
        let places = args.locations.as_deref().map(locations).transpose()?.unwrap_or_default();
        let header = rows.headers().context("the header")?.clone();
        ensure!(!header.is_empty(), "{} is empty", args.file.display());
        let sensors = header.iter().map(|id| {
            let place = places.get(id).map_or(String::new(), |(latitude, longitude)| {
                format!(r#","coordinates":{{"latitude":{latitude},"longitude":{longitude}}}"#)
            });
            Sensor {
                id: id.to_owned(),
                segment: format!("SEG_{id}"),
                tail: format!(r#"{place},"source":"SENSOR","quality_score":1.0}}"#),
            }
        });
        let sensors = sensors.collect();
        // Steps are real time from the first one on: no hour is missing or twice where the clocks change.
        let start_ms = args.time_zone.to_ambiguous_timestamp(start).compatible()?.as_millisecond();
        Ok(Self {
            rows,
            size,
            row: StringRecord::new(),
            column: 0,
            at_ms: start_ms,
            next_ms: start_ms,
            step_ms: args.step,
            sensors,
            unit: if args.unit == Unit::Mph { SpeedUnit::Mph } else { SpeedUnit::Kmh },
            zero_is_missing: args.zero_is_missing,
            keyed: args.key == Key::Segment,
            value: Vec::new(),
        })
    }

    fn speed(&self) -> Result<Option<f64>> {
        let cell = self.row[self.column].trim();
        if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
            return Ok(None);
        }
        let line = self.row.position().map_or(0, Position::line);
        let sensor = &self.sensors[self.column].id;
        let speed: f64 =
            cell.parse().with_context(|| format!("line {line}, sensor {sensor}: {cell:?} is no number"))?;
        Ok((speed != 0.0 || !self.zero_is_missing).then(|| self.unit.to_kmh(speed)))
    }
}

impl Source for Wide {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        loop {
            if self.column >= self.row.len() {
                if !self.rows.read_record(&mut self.row)? {
                    return Ok(None);
                }
                (self.column, self.at_ms) = (0, self.next_ms);
                self.next_ms += self.step_ms;
            }
            let speed = self.speed()?;
            let sensor = &self.sensors[self.column];
            self.column += 1;
            let Some(speed) = speed else { continue };
            let at_ms = self.at_ms;
            self.value.clear();
            write!(
                self.value,
                r#"{{"event_id":"EVT_{}_{at_ms}","segment_id":"{}","timestamp":{at_ms},"speed":{speed}{}"#,
                sensor.id, sensor.segment, sensor.tail
            )?;
            let key = self.keyed.then_some(sensor.segment.as_bytes());
            return Ok(Some(Item { key, value: &self.value, at_ms: Some(at_ms) }));
        }
    }

    /// All rows before this one.
    fn complete_ms(&self) -> Option<i64> {
        Some(self.at_ms)
    }

    fn done(&self) -> (u64, u64) {
        (self.rows.position().byte(), self.size)
    }
}

/// Latitude and longitude by sensor id.
///
/// # Errors
/// If the file can not be read: where and why.
pub fn locations(path: &Path) -> Result<HashMap<String, (f64, f64)>> {
    let what = || format!("--locations {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(what)?;
    let header = reader.headers().with_context(what)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|h| h.trim() == name);
        found.with_context(|| format!("{}: column {name} is missing", what()))
    };
    let (id, latitude, longitude) = (column("sensor_id")?, column("latitude")?, column("longitude")?);
    let mut places = HashMap::new();
    for row in reader.records() {
        let row = row.with_context(what)?;
        let degrees = |column: usize| {
            let line = row.position().map_or(0, Position::line);
            row[column].trim().parse::<f64>().with_context(|| format!("{}, line {line}", what()))
        };
        places.insert(row[id].to_owned(), (degrees(latitude)?, degrees(longitude)?));
    }
    Ok(places)
}
