//! What a model's forecasts are worth: the machine itself is fed a series, and what it publishes is compared with what
//! came, beside what needs no model.

use std::collections::HashMap;
use std::ops::Range;

use common::model::{Aggregate, Prediction};
use common::stream::partitioner::partition_of;
use common::stream::{Header, Machine as _, Outbox, Records, StoredRecord, WATERMARK_HEADER};
use serde::{Deserialize, Serialize};

use crate::forecast::linear::{self, Linear};
use crate::forecast::metrics::{Confidence, ConfidenceSums, ErrorSums, Errors, IntervalSums, Intervals};
use crate::forecast::profile::{AllDates, Combined};
use crate::forecast::series::Series;
use crate::forecast::snapshot::Snapshot;
use crate::forecast::{STEP_MIN, STEP_MS};
use crate::frames::CLOSE_KMH;
use crate::{DIGEST, PREDICTIONS, Predictor, Settings, Slot};

/// Frames of long ago wait for everybody.
const NOW_MS: i64 = 4_000_000_000_000;

/// What is to be evaluated.
pub struct Task<'a> {
    pub series: &'a Series,
    /// Windows that the linear baseline and the historical average are fitted to.
    pub fitted: Range<usize>,
    /// Windows that the machine is fed; those before the scored ones only give it something to look back on.
    pub fed: Range<usize>,
    /// Windows at whose end the forecasts are made that count.
    pub scored: Range<usize>,
    /// Over how many partitions segments are spread: errors are learnt apart.
    pub partitions: u32,
    /// Whether a horizon's errors are those of all steps up to it.
    pub averaged: bool,
}

/// One horizon's figures, km/h unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonReport {
    /// Minutes.
    pub horizon: u32,
    pub model: Errors,
    pub interval_80: Intervals,
    pub interval_90: Intervals,
    /// Of being within 10 km/h of the forecast.
    pub confidence: Confidence,
    pub last_value: Errors,
    pub historical_average: Errors,
    pub linear: Option<Errors>,
}

/// One forecast that was scored, km/h.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Index in the series.
    pub segment: u32,
    /// The window at whose end it was made.
    pub window: u32,
    /// Minutes.
    pub horizon: u32,
    pub truth: f32,
    pub forecast: f32,
    /// The 19 quantiles.
    pub quantiles: [f32; common::model::QUANTILES],
    /// Probability said of being within 10 km/h of the forecast.
    pub confidence: f32,
    pub last_value: f32,
    pub historical_average: Option<f32>,
    pub linear: Option<f32>,
}

impl Scored {
    /// Whether it came true within what [`Scored::confidence`] speaks of.
    #[must_use]
    pub fn is_close(&self) -> bool {
        f64::from((self.truth - self.forecast).abs()) <= CLOSE_KMH
    }
}

#[derive(Default, Clone)]
struct Sums {
    model: ErrorSums,
    interval_80: IntervalSums,
    interval_90: IntervalSums,
    confidence: ConfidenceSums,
    last_value: ErrorSums,
    historical_average: ErrorSums,
    linear: ErrorSums,
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        self.model.merge(&other.model);
        self.interval_80.merge(&other.interval_80);
        self.interval_90.merge(&other.interval_90);
        self.confidence.merge(&other.confidence);
        self.last_value.merge(&other.last_value);
        self.historical_average.merge(&other.historical_average);
        self.linear.merge(&other.linear);
    }

    fn add(&mut self, scored: &Scored) {
        let truth = f64::from(scored.truth);
        self.model.add(f64::from(scored.forecast), truth);
        let quantile = |i: usize| f64::from(scored.quantiles[i]);
        let last = scored.quantiles.len() - 1;
        self.interval_90.add((quantile(0), quantile(last)), truth);
        self.interval_80.add((quantile(1), quantile(last - 1)), truth);
        self.confidence.add(f64::from(scored.confidence), scored.is_close());
        self.last_value.add(f64::from(scored.last_value), truth);
        scored.historical_average.iter().for_each(|speed| self.historical_average.add(f64::from(*speed), truth));
        scored.linear.iter().for_each(|speed| self.linear.add(f64::from(*speed), truth));
    }
}

impl Task<'_> {
    /// Runs the machine; `progress` hears of each window, `each` gets every forecast that is scored.
    ///
    /// # Errors
    /// If the machine publishes what is no prediction.
    pub fn run(
        &self,
        settings: &Settings,
        model: &Slot,
        progress: &dyn Fn(),
        each: &mut dyn FnMut(Scored),
    ) -> Result<Vec<HorizonReport>, serde_json::Error> {
        let horizons = &settings.horizons;
        let baselines = self.baselines(settings);
        // By horizon, and apart for each window from the end, since an average over steps leaves out its last windows.
        let mut sums: Vec<Vec<Sums>> = vec![vec![Sums::default(); self.scored.len()]; horizons.len()];
        let mut machine = Predictor::new(settings.clone(), model.clone());
        (0..self.partitions).for_each(|partition| machine.assign(partition, self.partitions));
        let partition = |id: &str| partition_of(id.as_bytes(), self.partitions);
        let indices: HashMap<&str, usize> = (0..).zip(&self.series.segments).map(|(i, id)| (&**id, i)).collect();
        let mut out = Outbox::default();
        for window in self.fed.clone() {
            for number in 0..self.partitions {
                let records = self.records(window, |id| partition(id) == number);
                machine.records(&Records::stored(0, number, &records), NOW_MS, &mut out);
            }
            for digest in out.emitted(DIGEST) {
                let record = StoredRecord { key: digest.key, value: digest.value, ..StoredRecord::default() };
                machine.tailed(&record.as_record(), NOW_MS, &mut out);
            }
            if self.scored.contains(&window) {
                for message in out.emitted(PREDICTIONS) {
                    let value = message.value.unwrap_or_default();
                    let prediction: Prediction<'_> = serde_json::from_slice(&value)?;
                    let Some(&segment) = indices.get(&*prediction.segment_id) else { continue };
                    if let Some((h, scored)) = self.score((segment, window), &prediction, horizons, &baselines) {
                        sums[h][window - self.scored.start].add(&scored);
                        each(scored);
                    }
                }
            }
            (0..self.partitions).for_each(|number| machine.flush(number, NOW_MS, &mut out));
            out.clear();
            progress();
        }
        Ok(self.report(horizons, &sums))
    }

    fn score(
        &self,
        (segment, window): (usize, usize),
        prediction: &Prediction<'_>,
        horizons: &[u32],
        baselines: &Baselines,
    ) -> Option<(usize, Scored)> {
        let ahead = (prediction.prediction_horizon / STEP_MIN) as usize;
        let truth = *self.series.speeds[segment].get(window + ahead).filter(|speed| !speed.is_nan())?;
        let h = horizons.iter().position(|minutes| *minutes == prediction.prediction_horizon)?;
        let baseline = baselines.get(&(segment, window, h));
        #[expect(clippy::cast_possible_truncation, reason = "speeds and places")]
        let scored = Scored {
            segment: segment as u32,
            window: window as u32,
            horizon: prediction.prediction_horizon,
            truth,
            forecast: prediction.predicted_speed as f32,
            quantiles: prediction.speed_quantiles.map(|speed| speed as f32),
            confidence: prediction.confidence_score as f32,
            last_value: prediction.current_speed as f32,
            historical_average: baseline.map(|baseline| baseline.historical_average),
            linear: baseline.and_then(|baseline| baseline.linear),
        };
        Some((h, scored))
    }

    fn report(&self, horizons: &[u32], sums: &[Vec<Sums>]) -> Vec<HorizonReport> {
        let mut reports = Vec::new();
        for (h, minutes) in horizons.iter().enumerate() {
            let ahead = (minutes / STEP_MIN) as usize;
            let of = if self.averaged { &sums[..=h] } else { &sums[h..=h] };
            // As far as the longest of the steps has a truth.
            let windows = (self.series.windows() - ahead).min(self.scored.end) - self.scored.start;
            let mut all = Sums::default();
            of.iter().flat_map(|by_window| &by_window[..windows.min(by_window.len())]).for_each(|sums| all.merge(sums));
            let linear = all.linear.errors();
            reports.push(HorizonReport {
                horizon: *minutes,
                model: all.model.errors(),
                interval_80: all.interval_80.intervals(),
                interval_90: all.interval_90.intervals(),
                confidence: all.confidence.confidence(),
                last_value: all.last_value.errors(),
                historical_average: all.historical_average.errors(),
                linear: (linear.n > 0).then_some(linear),
            });
        }
        reports
    }

    /// A window of the series as the machine reads it, of some segments.
    fn records(&self, window: usize, wanted: impl Fn(&str) -> bool) -> Vec<StoredRecord> {
        let window_end = self.series.step(window) * STEP_MS;
        let mut records = Vec::new();
        for (id, speeds) in self.series.segments.iter().zip(&self.series.speeds) {
            let speed = speeds[window];
            if speed.is_nan() || !wanted(id) {
                continue;
            }
            let window_start = window_end - STEP_MS;
            let aggregate = Aggregate {
                aggregate_id: format!("AGG_{id}_{window_start}").into(),
                segment_id: (&**id).into(),
                window_start,
                window_end,
                avg_speed: Some(f64::from(speed)),
                speed_stddev: None,
                speed_min: None,
                speed_max: None,
                vehicle_count: 0,
                occupancy_avg: 0.0,
                occupancy_max: None,
                congestion_level: None,
                coordinates: None,
                event_count: 1,
                quality_score: 1.0,
            };
            let value = Some(serde_json::to_vec(&aggregate).expect("an aggregate is always JSON"));
            records.push(StoredRecord { value, ..StoredRecord::default() });
        }
        let marker = window_end.to_string().into_bytes();
        let headers = vec![Header { name: WATERMARK_HEADER.into(), value: marker }];
        records.push(StoredRecord { headers, ..StoredRecord::default() });
        records
    }

    /// What needs no model.
    fn baselines(&self, settings: &Settings) -> Baselines {
        let slots = self.series.slots(&settings.time);
        let profiles = self.series.profiles(self.fitted.clone(), &slots);
        let pasts: Vec<_> = profiles.iter().map(|own| Combined { own, fitted: Some(own), frozen: true }).collect();
        let horizons: Vec<i64> = settings.horizons.iter().map(|minutes| i64::from(minutes / STEP_MIN)).collect();
        let truth = |segment: usize, window: usize, h: usize| {
            let ahead = usize::try_from(horizons[h]).expect("a few windows");
            self.series.speeds[segment].get(window + ahead).copied().filter(|speed| !speed.is_nan())
        };
        // Rows to fit to, drawn evenly.
        let all = self.fitted.len() * self.series.segments.len();
        let every = all.div_ceil(linear::MOST_ROWS).max(1);
        let mut rows: Vec<Vec<(Snapshot, f32)>> = vec![Vec::new(); horizons.len()];
        let (first, dates) = self.series.by_date(self.fitted.clone(), &slots);
        let all_dates: Vec<_> =
            profiles.iter().zip(&dates).map(|(profile, readings)| AllDates { profile, first, readings }).collect();
        let windows = self.fitted.start..self.fitted.end.saturating_sub(12);
        self.series.play(windows, &all_dates, &horizons, &settings.time, &mut |window, _, snapshots, _| {
            for (segment, snapshot) in snapshots.iter().enumerate() {
                let Some(snapshot) = snapshot.as_ref().filter(|_| (window + 7 * segment) % every == 0) else {
                    continue;
                };
                for (h, rows) in rows.iter_mut().enumerate() {
                    rows.extend(truth(segment, window, h).map(|truth| (snapshot.clone(), truth)));
                }
            }
        });
        let linear: Vec<Option<Linear>> = rows.iter().enumerate().map(|(h, rows)| Linear::fit(h, rows)).collect();
        let mut baselines = HashMap::new();
        self.series.play(self.scored.clone(), &pasts, &horizons, &settings.time, &mut |window, _, snapshots, _| {
            for (segment, snapshot) in snapshots.iter().enumerate() {
                let Some(snapshot) = snapshot else { continue };
                for (h, linear) in linear.iter().enumerate() {
                    #[expect(clippy::cast_possible_truncation, reason = "a speed")]
                    let linear = linear.as_ref().map(|linear| linear.predict(snapshot, h) as f32);
                    let historical_average = snapshot.ahead[h].usual;
                    baselines.insert((segment, window, h), Baseline { historical_average, linear });
                }
            }
        });
        baselines
    }
}

/// By segment, window and horizon.
type Baselines = HashMap<(usize, usize, usize), Baseline>;

struct Baseline {
    historical_average: f32,
    linear: Option<f32>,
}
