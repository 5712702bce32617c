//! Pictures of an evaluation, as SVG files.
//!
//! | file | owns |
//! |---|---|
//! | `draw.rs` | what the pictures look like |

mod draw;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use common::model::QUANTILES;
use predictor::evaluate::Scored;
use predictor::forecast::STEP_MIN;
use predictor::forecast::calendar::Slot;
use predictor::forecast::series::Series;

use super::Report;

/// Most horizons in one picture.
const MOST_HORIZONS: usize = 3;
/// Windows of a day.
const DAY: usize = 288;

/// Sums of absolute errors, km/h: of the model, the last value, the historical average and the linear regression.
type Sums = [(f64, f64); 4];

/// A segment's day, of whose forecasts the band is drawn.
#[derive(Debug, Clone)]
struct Day {
    segment: usize,
    /// The windows spoken of.
    windows: Range<usize>,
    /// Minutes ahead.
    horizon: u32,
    /// By window spoken of: the forecast, and the ends of its 90 % interval, km/h.
    forecasts: Vec<(f64, f64, f64)>,
}

/// What the pictures are drawn from; hears of every forecast that is scored.
pub struct Plots<'a> {
    series: &'a Series,
    slots: Vec<Slot>,
    /// By horizon and hour of the local day spoken of.
    hours: BTreeMap<u32, [Sums; 24]>,
    /// By horizon: how many speeds were not above each quantile, and of how many.
    quantiles: BTreeMap<u32, ([u64; QUANTILES], u64)>,
    /// By segment, over all horizons.
    segments: Vec<Sums>,
    day: Option<Day>,
}

impl<'a> Plots<'a> {
    /// `scored`: the windows at whose end forecasts are made that count.
    pub fn new(series: &'a Series, slots: Vec<Slot>, scored: &Range<usize>, horizons: &[u32]) -> Self {
        let day = day(series, &slots, scored, horizons);
        let segments = vec![Sums::default(); series.segments.len()];
        let chosen = some(horizons);
        Self {
            series,
            slots,
            hours: chosen.iter().map(|horizon| (*horizon, [Sums::default(); 24])).collect(),
            quantiles: chosen.iter().map(|horizon| (*horizon, ([0; QUANTILES], 0))).collect(),
            segments,
            day,
        }
    }

    pub fn add(&mut self, scored: &Scored) {
        let error = |forecast: f32| f64::from((forecast - scored.truth).abs());
        let errors = [
            Some(error(scored.forecast)),
            Some(error(scored.last_value)),
            scored.historical_average.map(error),
            scored.linear.map(error),
        ];
        let add = |sums: &mut Sums| {
            for ((sum, n), error) in sums.iter_mut().zip(errors) {
                *sum += error.unwrap_or(0.0);
                *n += if error.is_some() { 1.0 } else { 0.0 };
            }
        };
        let target = (scored.window + scored.horizon / STEP_MIN) as usize;
        add(&mut self.segments[scored.segment as usize]);
        if let Some(hours) = self.hours.get_mut(&scored.horizon) {
            add(&mut hours[usize::from(self.slots[target].bin) / 12]);
        }
        if let Some((counts, n)) = self.quantiles.get_mut(&scored.horizon) {
            for (count, quantile) in counts.iter_mut().zip(scored.quantiles) {
                *count += u64::from(scored.truth <= quantile);
            }
            *n += 1;
        }
        let is_of = |day: &&mut Day| {
            day.segment == scored.segment as usize && day.horizon == scored.horizon && day.windows.contains(&target)
        };
        if let Some(day) = self.day.as_mut().filter(is_of) {
            let [low, .., high] = scored.quantiles.map(f64::from);
            day.forecasts[target - day.windows.start] = (f64::from(scored.forecast), low, high);
        }
    }

    /// Writes the pictures; `kmh` is one of the report's unit.
    pub fn write(&self, folder: &Path, report: &Report, kmh: f64) -> Result<()> {
        let pictures = [
            ("error-by-hour.svg", draw::by_hour(&self.hours, report.unit, kmh)),
            ("error-by-horizon.svg", draw::by_horizon(report)),
            ("calibration.svg", draw::calibration(&self.quantiles, report)),
            ("segments.svg", draw::segments(&self.series.segments, &self.segments, report.unit, kmh)),
        ];
        let day = self.day.as_ref().map(|day| ("day.svg", draw::day(day, self.series, &self.slots, report.unit, kmh)));
        for (name, svg) in pictures.into_iter().chain(day) {
            let path = folder.join(name);
            let svg = svg.expect("a string takes everything");
            fs::write(&path, svg).with_context(|| format!("--plot: {} can not be written", path.display()))?;
        }
        Ok(())
    }
}

/// Makes the folder and tries to write into it, before hours are spent on a fit.
pub fn prepare(folder: &Path) -> Result<()> {
    let why = || format!("--plot: {} is no folder that can be written to", folder.display());
    fs::create_dir_all(folder).with_context(why)?;
    let trial = folder.join(".traffic-evaluate");
    fs::write(&trial, "").and_then(|()| fs::remove_file(&trial)).with_context(why)
}

/// The first, the middle and the last.
fn some(horizons: &[u32]) -> Vec<u32> {
    if horizons.len() <= MOST_HORIZONS {
        return horizons.to_vec();
    }
    [0, (horizons.len() - 1) / 2, horizons.len() - 1].map(|i| horizons[i]).to_vec()
}

/// The day of a segment whose speeds differ most, of those that are scored and hardly have a gap.
fn day(series: &Series, slots: &[Slot], scored: &Range<usize>, horizons: &[u32]) -> Option<Day> {
    let horizon = *some(horizons).get(horizons.len().min(MOST_HORIZONS) / 2)?;
    let ahead = (horizon / STEP_MIN) as usize;
    let spoken_of = scored.start + ahead..(scored.end + ahead).min(series.windows());
    let mut days: Vec<Range<usize>> = Vec::new();
    for window in spoken_of {
        match days.last_mut() {
            Some(day) if slots[day.start].date == slots[window].date => day.end = window + 1,
            _ => days.push(window..window + 1),
        }
    }
    let longest = days.iter().map(Range::len).max()?.min(DAY);
    days.retain(|day| day.len() >= longest);
    let worth = |(segment, day): &(usize, Range<usize>)| {
        let speeds = series.speeds[*segment][day.clone()].iter().filter(|speed| !speed.is_nan());
        let (n, sum, squares) = speeds.fold((0.0, 0.0, 0.0), |(n, sum, squares), speed| {
            let speed = f64::from(*speed);
            (n + 1.0, sum + speed, squares + speed * speed)
        });
        #[expect(clippy::cast_precision_loss, reason = "windows of a day")]
        let share = n / day.len() as f64;
        if n > 0.0 { share.powi(4) * (squares / n - (sum / n).powi(2)) } else { 0.0 }
    };
    let all = (0..series.segments.len()).flat_map(|segment| days.iter().map(move |day| (segment, day.clone())));
    let (segment, windows) = all.max_by(|a, b| worth(a).total_cmp(&worth(b)))?;
    let forecasts = vec![(f64::NAN, f64::NAN, f64::NAN); windows.len()];
    Some(Day { segment, windows, horizon, forecasts })
}
