//! Readings in wide CSV files (a row a step, a column a sensor) as a series to fit and evaluate models on.

mod graph;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use common::config::Config;
use common::model::SpeedUnit;
use indicatif::ProgressBar;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use predictor::Settings;
use predictor::forecast::STEP_MS;
use predictor::forecast::calendar::LocalTime;
use predictor::forecast::snapshot::fixed;

use crate::replay::Unit;

pub use graph::edges;

/// How the files are to be read.
#[derive(Debug, Args)]
pub struct WideArgs {
    /// From row to row
    #[arg(long, default_value = "5m", value_parser = crate::units::duration_ms)]
    pub step: i64,
    /// The unit of the speeds
    #[arg(long, value_enum, default_value = "kmh")]
    pub unit: Unit,
    /// The zone of the start times, whose clock people commute by [default: the predictor's, by the settings]
    #[arg(long, value_parser = crate::replay::zone)]
    time_zone: Option<TimeZone>,
    /// A speed of 0 is a missing reading, not a stopped road
    #[arg(long)]
    pub zero_is_missing: bool,
    /// Where the sensors are (columns sensor_id, latitude, longitude)
    #[arg(long, value_name = "CSV")]
    pub locations: Option<PathBuf>,
    /// Which sensor traffic flows from and to (columns from, to, and weight or distance_km) [default: by --locations,
    /// if given]
    #[arg(long, value_name = "CSV")]
    pub graph: Option<PathBuf>,
    /// What segments are called: this and the sensor's id, as `traffic replay` does
    #[arg(long, default_value = "SEG_")]
    pub segment_prefix: String,
}

/// Readings of one file.
pub struct Wide {
    /// The first window's end, in windows since the epoch.
    pub first: i64,
    pub windows: usize,
    /// Sensor id and speeds, km/h; NaN where nothing was measured.
    pub columns: Vec<(String, Vec<f32>)>,
}

impl WideArgs {
    /// The clock that profiles follow.
    pub fn time(&self, config: &Config) -> LocalTime {
        let LocalTime { zone, holidays } = Settings::from(config).time;
        LocalTime { zone: self.time_zone.clone().unwrap_or(zone), holidays }
    }

    /// Reads a file whose first row is of `start`, local time. Steps shorter than five minutes are averaged; of longer
    /// ones each reading stands in the five minutes that it begins.
    ///
    /// # Errors
    /// If it can not be read: where and why.
    pub fn read(&self, path: &Path, start: DateTime, zone: &TimeZone, bar: &ProgressBar) -> Result<Wide> {
        let what = || path.display().to_string();
        ensure!((1_000..=3_600_000).contains(&self.step), "--step: 1s to 1h");
        let start_ms = zone.to_ambiguous_timestamp(start).compatible()?.as_millisecond();
        let mut rows = csv::ReaderBuilder::new().flexible(false).from_path(path).with_context(what)?;
        let ids: Vec<String> = rows.headers().with_context(what)?.iter().map(|id| id.trim().to_owned()).collect();
        ensure!(!ids.is_empty() && ids.iter().all(|id| !id.is_empty()), "{}: the header must name the sensors", what());
        if let Some(id) = ids.iter().enumerate().find_map(|(i, id)| ids[..i].contains(id).then_some(id)) {
            bail!("{}: sensor {id} has two columns", what());
        }
        let unit = if self.unit == Unit::Mph { SpeedUnit::Mph } else { SpeedUnit::Kmh };
        let first = start_ms.div_euclid(STEP_MS) + 1;
        // Sum and number of the readings in a window.
        let mut sums: Vec<Vec<(f64, f64)>> = vec![Vec::new(); ids.len()];
        for (number, row) in rows.records().enumerate() {
            let row = row.with_context(what)?;
            let at_ms = start_ms + self.step * i64::try_from(number)?;
            let window = usize::try_from(at_ms.div_euclid(STEP_MS) + 1 - first)?;
            for ((sums, cell), id) in sums.iter_mut().zip(&row).zip(&ids) {
                sums.resize(window + 1, (0.0, 0.0));
                let cell = cell.trim();
                if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
                    continue;
                }
                let line = row.position().map_or(0, csv::Position::line);
                let speed: f64 = cell
                    .parse()
                    .with_context(|| format!("{}, line {line}, sensor {id}: {cell:?} is no number", what()))?;
                let kmh = unit.to_kmh(speed);
                ensure!(
                    (0.0..250.0).contains(&kmh),
                    "{}, line {line}, sensor {id}: {cell} is no speed of a road (0 to 250 km/h; --unit says which unit it is)",
                    what()
                );
                if speed != 0.0 || !self.zero_is_missing {
                    sums[window].0 += kmh;
                    sums[window].1 += 1.0;
                }
            }
            bar.set_position(row.position().map_or(0, csv::Position::byte));
        }
        let windows = sums.first().map_or(0, Vec::len);
        ensure!(windows > 0, "{}: no row follows the header", what());
        // As the predictor takes an aggregate in.
        let mean = |(sum, count): (f64, f64)| fixed(sum / count);
        let columns = ids.into_iter().zip(sums).map(|(id, sums)| (id, sums.into_iter().map(mean).collect()));
        Ok(Wide { first, windows, columns: columns.collect() })
    }

    /// A sensor's segment.
    pub fn segment(&self, sensor: &str) -> Box<str> {
        format!("{}{sensor}", self.segment_prefix).into()
    }
}

impl Wide {
    /// Adds the readings of a later file. What lies between them is missing.
    ///
    /// # Errors
    /// If they overlap, or have no sensor in common.
    pub fn join(mut self, later: Self) -> Result<Self> {
        let offset = usize::try_from(later.first - self.first).unwrap_or(0);
        if offset < self.windows {
            bail!(
                "the test file begins before the training file ends: --train-start and --test-start say when each does"
            );
        }
        let windows = offset + later.windows;
        ensure!(
            windows < 2_000_000,
            "more than 19 years lie between the files: look at --train-start and --test-start"
        );
        let mut found = 0;
        for (id, speeds) in later.columns {
            let column = match self.columns.iter_mut().find(|(own, _)| *own == id) {
                Some(column) => {
                    found += 1;
                    column
                }
                None => {
                    self.columns.push((id, Vec::new()));
                    self.columns.last_mut().expect("it was just pushed")
                }
            };
            column.1.resize(offset, f32::NAN);
            column.1.extend(speeds);
        }
        ensure!(found > 0, "the files have no sensor in common");
        self.columns.iter_mut().for_each(|(_, speeds)| speeds.resize(windows, f32::NAN));
        Ok(Self { windows, ..self })
    }
}
