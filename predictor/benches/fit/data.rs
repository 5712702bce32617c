//! Readings to fit to, and rows of them by the crate's own code.

use std::ops::Range;
use std::path::Path;

use predictor::forecast::calendar::LocalTime;
use predictor::forecast::fit::rows;
use predictor::forecast::model::{Model, Rows};
use predictor::forecast::network::Edge;
use predictor::forecast::profile::{AllDates, Combined};
use predictor::forecast::series::Series;

const KMH: f32 = 1.609_344;
/// 2012-05-23 07:10 in Los Angeles, the end of its window, in windows since the epoch.
const START: i64 = 1_337_782_200 / 300 + 1;

/// Readings, where traffic flows, and the clock.
pub struct Readings {
    pub series: Series,
    pub edges: Vec<Edge>,
    pub time: LocalTime,
}

impl Readings {
    /// 18 days of 60 METR-LA sensors from a folder; each sensor as often as `copies` says, to have more rows.
    pub fn metr_la(folder: &Path, copies: usize) -> Self {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = read("metrla60_val.csv");
        let mut lines = text.lines();
        let ids: Vec<&str> = lines.next().expect("a header").split(',').collect();
        let mut columns: Vec<Vec<f32>> = vec![Vec::new(); ids.len()];
        for line in lines {
            for (column, cell) in columns.iter_mut().zip(line.split(',')) {
                let speed: f32 = cell.parse().expect("a speed");
                column.push(if speed > 0.0 { speed * KMH } else { f32::NAN });
            }
        }
        let all: Vec<_> = (0..copies)
            .flat_map(|copy| ids.iter().zip(&columns).map(move |(id, c)| (format!("{id}_{copy}").into(), c.clone())))
            .collect();
        let series = Series::new(START, all);
        let index = |id: &str| {
            let found = series.segments.binary_search_by(|own| (**own).cmp(&format!("{id}_0")));
            found.ok().map(|index| u32::try_from(index).expect("few"))
        };
        let text = read("metrla_edges.csv");
        let edges = text.lines().skip(1).filter_map(|line| {
            let mut cells = line.split(',');
            let (from, to) = (index(cells.next()?)?, index(cells.next()?)?);
            Some((from, to, cells.next()?.parse().ok()?))
        });
        let edges = edges.collect();
        let zone = jiff::tz::TimeZone::get("America/Los_Angeles").expect("bundled");
        Self { series, edges, time: zone.into() }
    }

    /// The rows that a model's trees were fitted to.
    pub fn fitted(&self, model: &Model, windows: &Range<usize>, minutes: u32) -> (Rows, Vec<f32>) {
        let ahead = (minutes / 5) as usize;
        let (first, dates) = self.series.by_date(windows.clone(), &self.series.slots(&self.time));
        let profiles: Vec<_> = model.segments.iter().map(|member| member.profile.unpack()).collect();
        let pasts: Vec<AllDates<'_>> =
            profiles.iter().zip(&dates).map(|(profile, readings)| AllDates { profile, first, readings }).collect();
        let windows = windows.start..windows.end - ahead;
        rows(&self.series, &model.segments, &pasts, windows, ahead, &self.time, usize::MAX)
    }

    /// The rows of windows after those of the fit, what is usual as it was then.
    pub fn later(&self, model: &Model, windows: &Range<usize>, minutes: u32) -> (Rows, Vec<f32>) {
        let ahead = (minutes / 5) as usize;
        let seen = self.series.profiles(0..windows.end, &self.series.slots(&self.time));
        let profiles: Vec<_> = model.segments.iter().map(|member| member.profile.unpack()).collect();
        let past = |(own, fitted)| Combined { own, fitted: Some(fitted), frozen: true };
        let pasts: Vec<Combined<'_>> = seen.iter().zip(&profiles).map(past).collect();
        let windows = windows.start..windows.end - ahead;
        rows(&self.series, &model.segments, &pasts, windows, ahead, &self.time, usize::MAX)
    }
}

/// Mean absolute difference.
pub fn mae(forecasts: impl Iterator<Item = f32>, truths: &[f32]) -> f64 {
    let sum: f64 = forecasts.zip(truths).map(|(forecast, truth)| f64::from((forecast - truth).abs())).sum();
    #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
    let n = truths.len() as f64;
    sum / n
}
