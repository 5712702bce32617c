//! `traffic replay FILE`: recorded readings into the log.

mod lines;
mod wide;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use common::model::{Normaliser, SpeedUnit};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::feed::{Source, Speed};

pub use wide::locations;

/// Send a file of recorded readings
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic replay los_speed.csv --start 2012-03-01T00:00:00 --time-zone America/Los_Angeles \\
      --step 5m --unit mph --locations graph_sensor_locations.csv
  traffic replay events.ndjson                         lines as they are, keyed by segment
  traffic replay test_data.csv --speed 60              a minute of event time each second

A wide CSV has a row a step and a column a sensor (METR-LA, PEMS); a long CSV has a column `timestamp`; anything
else is taken as NDJSON and sent line by line as it is. With watermark markers every minute of event time.")]
pub struct ReplayArgs {
    pub file: PathBuf,
    /// What the file is [default: by its name and header]
    #[arg(long)]
    pub format: Option<Format>,
    /// Times real time, or `max`
    #[arg(long, default_value = "max")]
    pub speed: Speed,
    /// Wide CSV: local time of the first row
    #[arg(long)]
    pub start: Option<DateTime>,
    /// The zone of times without one
    #[arg(long, default_value = "UTC", value_parser = zone)]
    pub time_zone: TimeZone,
    /// Wide CSV: from row to row
    #[arg(long, default_value = "5m", value_parser = crate::units::duration_ms)]
    pub step: i64,
    /// Wide CSV: the unit of the speeds
    #[arg(long, value_enum, default_value = "kmh")]
    pub unit: Unit,
    /// Wide CSV: where the sensors are (columns sensor_id, latitude, longitude)
    #[arg(long)]
    pub locations: Option<PathBuf>,
    /// Wide CSV: a speed of 0 is a missing reading, not a stopped road
    #[arg(long)]
    pub zero_is_missing: bool,
    /// The records' key
    #[arg(long, value_enum, default_value = "segment")]
    pub key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Wide,
    Long,
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    Kmh,
    Mph,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// The segment, as it should be
    Segment,
    /// None, as some senders do
    None,
}

pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("{name:?} is no IANA time zone, like America/Los_Angeles"))
}

impl ReplayArgs {
    /// Opens the file.
    ///
    /// # Errors
    /// If it can not be read or an argument is missing, with what to give.
    pub fn source(&self) -> Result<Box<dyn Source>> {
        let what = || format!("{}", self.file.display());
        let file = std::fs::File::open(&self.file).with_context(what)?;
        let size = file.metadata().with_context(what)?.len();
        let format = match self.format {
            Some(format) => format,
            None => self.guess().with_context(what)?,
        };
        let normaliser = Normaliser { speed_unit: SpeedUnit::Kmh, time_zone: self.time_zone.clone() };
        Ok(match format {
            Format::Wide => Box::new(wide::Wide::open(file, self)?),
            Format::Long => Box::new(lines::Lines::csv(file, size, normaliser, self.key)?),
            Format::Ndjson => Box::new(lines::Lines::ndjson(file, size, normaliser, self.key)),
        })
    }

    fn guess(&self) -> Result<Format> {
        if self.file.extension().is_none_or(|e| !e.eq_ignore_ascii_case("csv")) {
            return Ok(Format::Ndjson);
        }
        let mut reader = csv::Reader::from_path(&self.file)?;
        let header = reader.headers()?;
        if header.iter().any(|column| column == "timestamp") {
            return Ok(Format::Long);
        }
        if self.start.is_none() {
            bail!("a wide CSV carries no times: --start says when its first row was, like --start 2012-03-01T00:00:00");
        }
        Ok(Format::Wide)
    }
}
