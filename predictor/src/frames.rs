//! A partition's frames: one per window end, closed in order. Closing a frame scores the forecasts whose truth has
//! come, learns from them, and makes the next ones. What comes out follows from the blocks alone.

mod confidence;
mod forecast;
mod scores;
mod state;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::{Block, Digests};
use crate::forecast::calendar::{LocalTime, Slot};
use crate::forecast::features::{Frame, Network};
use crate::forecast::model::{Estimate, Model, Rows};
use crate::forecast::regression::{FEATURES, Regression, features};
use crate::forecast::residuals::Residuals;
use crate::forecast::snapshot::Snapshot;
use crate::forecast::{STEP_MIN, profile};
use crate::live::{AtWork, Live};

use confidence::Confidence;
pub use forecast::{CLOSE_KMH, Forecast, Maker};
use forecast::{MOST_KMH, Shape};
pub use scores::{Duel, Score};
use trial::Trial;

/// Windows between two fits: an hour.
const FIT_EVERY: i64 = profile::BINS_PER_HOUR as i64;
/// Spreads are kept apart by the speed that the forecast starts from: free, dense, congested.
const REGIMES: usize = 3;
/// A segment's own spread counts as much as the partition's after so many residuals.
const SHRINK: f64 = 20.0;
/// Residuals that a spread remembers: a day.
const MEMORY: f64 = 288.0;
/// Least spread, km/h.
const LEAST_KMH: f64 = 0.5;

/// One horizon's model and what is known of its errors.
#[derive(Debug, Clone, PartialEq)]
struct Horizon {
    minutes: u32,
    regression: Regression,
    residuals: Residuals,
    /// Of the fitted model's forecasts; `None` before the first.
    model_residuals: Option<Residuals>,
    /// Whether forecasts were as close as was said: those of what stands in for a model, and a model's.
    confidence: [Confidence; 2],
    /// Mean absolute residual over the partition's segments, km/h.
    spread: f64,
    trials: [Trial; REGIMES],
    score: Score,
    /// The same of the present model's forecasts, and lately.
    recent: Score,
    /// The present challenger's forecasts beside what was published.
    duel: Duel,
}

impl Horizon {
    fn new(minutes: u32) -> Self {
        // What traffic does in that time, until it is measured.
        let spread = 2.0 + 0.1 * f64::from(minutes);
        Self {
            minutes,
            regression: Regression::default(),
            residuals: Residuals::default(),
            model_residuals: None,
            confidence: Default::default(),
            spread,
            trials: [Trial::default(); REGIMES],
            score: Score::default(),
            recent: Score::default(),
            duel: Duel::default(),
        }
    }

    fn steps(&self) -> i64 {
        i64::from(self.minutes / STEP_MIN)
    }
}

/// By horizon and place in the block; `None` for a segment that the model does not know.
type Estimates = Vec<Vec<Option<Estimate>>>;

/// A segment's mean absolute residual by regime, and how many it was learnt from.
type Spreads = Vec<[(f32, f32); REGIMES]>;

/// What was forecast for a segment and horizon, km/h. NaN where there was nothing.
#[derive(Debug, Clone, Copy)]
struct Made {
    /// The median that was published, and the probability of being close to it as the distribution had it.
    published: f32,
    said: f32,
    /// What the model said: center and spread.
    model: [f32; 2],
    /// What stands in for it: center and spread, …
    stand_in: [f32; 2],
    /// … and where fallback and regression would have put it.
    fallback: f32,
    regression: f32,
    /// What the challenger said; kept only as long as the process lives.
    challenger: f32,
}

/// The forecasts of a frame, kept until their truth has come.
#[derive(Debug, Clone)]
struct Sent {
    network: Network,
    /// Versions of model and challenger; empty if there was none.
    by: Box<str>,
    challenger: Box<str>,
    /// By segment as in the partition's block, then by horizon.
    made: Vec<Made>,
}

/// The state of a partition's frames.
#[derive(Debug, Clone)]
pub struct Frames {
    partition: u32,
    horizons: Vec<Horizon>,
    /// The newest frame that has closed.
    closed: Option<i64>,
    /// Versions that `recent` and `duel` are of; empty before the first.
    model: Box<str>,
    challenger: Box<str>,
    sent: BTreeMap<i64, Sent>,
    /// Frames that have closed since the last commit.
    fresh: Vec<i64>,
    spreads: BTreeMap<Box<str>, Spreads>,
    dirty: bool,
    rows: Rows,
    estimates: Vec<Estimate>,
}

impl Frames {
    /// `horizons`: minutes.
    #[must_use]
    pub fn new(partition: u32, horizons: &[u32]) -> Self {
        let horizons = horizons.iter().map(|minutes| Horizon::new(*minutes)).collect();
        Self {
            partition,
            horizons,
            closed: None,
            model: Box::default(),
            challenger: Box::default(),
            sent: BTreeMap::new(),
            fresh: Vec::new(),
            spreads: BTreeMap::new(),
            dirty: false,
            rows: Rows::default(),
            estimates: Vec::new(),
        }
    }

    #[must_use]
    pub fn closed(&self) -> Option<i64> {
        self.closed
    }

    /// Frames from `step` on are to be closed.
    pub fn begin(&mut self, step: i64) {
        self.closed = Some(step - 1);
        self.dirty = true;
    }

    /// By horizon in minutes.
    pub fn scores(&self) -> impl Iterator<Item = (u32, Score)> {
        self.horizons.iter().map(|horizon| (horizon.minutes, horizon.score))
    }

    /// How the forecasts of the model with this version did lately, by horizon in minutes.
    pub fn recent<'a>(&'a self, version: &str) -> impl Iterator<Item = (u32, Score)> + use<'a> {
        let is_its = &*self.model == version;
        self.horizons.iter().filter(move |_| is_its).map(|horizon| (horizon.minutes, horizon.recent))
    }

    /// How the challenger with this version did beside what was published, over all horizons.
    #[must_use]
    pub fn duel(&self, version: &str) -> Duel {
        let mut sum = Duel::default();
        if &*self.challenger == version {
            self.horizons.iter().for_each(|horizon| sum.merge(&horizon.duel));
        }
        sum
    }

    /// Closes the next frame; `each` gets every segment's snapshot and forecasts.
    pub fn close(
        &mut self,
        digests: &Digests,
        at_work: &AtWork,
        time: &LocalTime,
        each: &mut dyn FnMut(&str, &Snapshot, &[Forecast]),
    ) {
        let Some(step) = self.closed.map(|closed| closed + 1) else { return };
        self.closed = Some(step);
        self.dirty = true;
        // A window that the partition jumped over has no block.
        let Some(block) = digests.block(self.partition, step) else { return };
        self.notice(at_work);
        for h in 0..self.horizons.len() {
            self.score(h, step, block, digests, at_work);
        }
        for horizon in &mut self.horizons {
            horizon.regression.fade();
            horizon.residuals.fade();
            horizon.model_residuals.iter_mut().for_each(Residuals::fade);
            horizon.recent.fade();
            horizon.confidence.iter_mut().for_each(Confidence::fade);
            if step % FIT_EVERY == 0 {
                horizon.regression.fit();
            }
        }
        let of = |live: &Option<Arc<Live>>, frames: &mut Self| {
            live.as_ref().map_or_else(Vec::new, |live| frames.estimate(&live.model, block, digests, time))
        };
        let (estimates, challenger) = (of(&at_work.live, self), of(&at_work.challenger, self));
        if let Some(live) = &at_work.live {
            self.begin_residuals(&live.model, &estimates);
        }
        self.forecast(step, block, digests.network(step), [&estimates, &challenger], each);
        let longest = self.horizons.iter().map(Horizon::steps).max().unwrap_or(0);
        self.sent.retain(|sent, _| *sent > step - longest);
    }

    /// What other models did before says nothing of these.
    fn notice(&mut self, at_work: &AtWork) {
        let version = |live: &Option<Arc<Live>>| live.as_ref().map_or_else(Box::default, |live| live.version.clone());
        let (model, challenger) = (version(&at_work.live), version(&at_work.challenger));
        if self.model != model {
            self.horizons.iter_mut().for_each(|horizon| horizon.recent = Score::default());
            self.model = model;
        }
        if self.challenger != challenger {
            self.horizons.iter_mut().for_each(|horizon| horizon.duel = Duel::default());
            self.challenger = challenger;
        }
    }

    /// What a model makes of the block's segments.
    fn estimate(&mut self, model: &Model, block: &Block, digests: &Digests, time: &LocalTime) -> Estimates {
        let mut segments = vec![None; model.segments.len()];
        for (id, snapshot) in digests.segments(block.step) {
            if let Some(index) = model.index(id) {
                segments[index] = Some(snapshot);
            }
        }
        let now = Slot::of(block.step, time);
        let frame = Frame::new(now, &segments, digests.network(block.step), &model.segments);
        let indices: Vec<Option<usize>> = block.segments.iter().map(|(id, _)| model.index(id)).collect();
        let (rows, estimates) = (&mut self.rows, &mut self.estimates);
        let of = |(h, horizon): (usize, &Horizon)| {
            let Some(fitted) = model.horizon(horizon.minutes) else { return vec![None; indices.len()] };
            rows.clear();
            for ((_, snapshot), index) in block.segments.iter().zip(&indices) {
                if let Some(index) = index {
                    rows.push(snapshot, &model.segments[*index], &frame, h);
                }
            }
            if rows.is_empty() {
                return vec![None; indices.len()];
            }
            rows.estimate(fitted, estimates);
            let mut estimates = estimates.iter().copied();
            indices.iter().map(|index| index.and_then(|_| estimates.next())).collect()
        };
        self.horizons.iter().enumerate().map(of).collect()
    }

    /// The errors of the first model's first frame are taken to be those that it made on the days held out.
    fn begin_residuals(&mut self, model: &Model, estimates: &Estimates) {
        for (horizon, estimates) in self.horizons.iter_mut().zip(estimates) {
            let (rows, fitted) = (estimates.iter().flatten().count(), model.horizon(horizon.minutes));
            if let Some(fitted) = fitted.filter(|_| rows > 0) {
                #[expect(clippy::cast_precision_loss, reason = "a number of segments")]
                let known = model.segments.len() as f64;
                horizon.model_residuals.get_or_insert_with(|| fitted.residuals.thinned(known, rows as f64));
            }
        }
    }

    /// Compares what was forecast for this window with what it became, and learns from it.
    fn score(&mut self, h: usize, step: i64, truth: &Block, digests: &Digests, at_work: &AtWork) {
        // Of windows that a model has seen its forecasts are better than they will be.
        let unseen = |live: &Option<Arc<Live>>| live.as_ref().is_none_or(|live| step > live.seen_until);
        let (unseen, unseen_by_both) = (unseen(&at_work.live), unseen(&at_work.live) && unseen(&at_work.challenger));
        let horizon = &mut self.horizons[h];
        let from = step - horizon.steps();
        let (Some(sent), Some(block)) = (self.sent.get(&from), digests.block(self.partition, from)) else { return };
        let count = sent.made.len() / block.segments.len().max(1);
        let mut truths = truth.segments.iter().peekable();
        let (mut spread, mut residuals) = (0.0, 0.0);
        let mut tried = [(0.0, [0.0; 3]); REGIMES];
        for (i, (id, snapshot)) in block.segments.iter().enumerate() {
            // Both are in the order of ids.
            while truths.next_if(|(other, _)| other < id).is_some() {}
            let Some((_, now)) = truths.next_if(|(other, _)| other == id) else { continue };
            let (Some(made), false) = (sent.made.get(i * count + h), now.measured.is_nan()) else { continue };
            let (speed, filled) = (f64::from(now.measured), f64::from(snapshot.filled));
            let [[center, expected], [model, model_expected]] = [made.stand_in, made.model].map(|m| m.map(f64::from));
            let (fallback, regression) = (f64::from(made.fallback), f64::from(made.regression));
            let residual = speed - center;
            horizon.residuals.add(residual / expected);
            let by_model = !model.is_nan();
            if let Some(residuals) = horizon.model_residuals.as_mut().filter(|_| by_model && unseen) {
                residuals.add((speed - model) / model_expected);
            }
            let (error, persistence_error) = ((speed - f64::from(made.published)).abs(), (speed - filled).abs());
            horizon.score.add(error, persistence_error);
            if unseen || !by_model {
                horizon.confidence[usize::from(by_model)].add(f64::from(made.said), error <= CLOSE_KMH);
            }
            if unseen && by_model && sent.by == self.model {
                horizon.recent.add(error, persistence_error);
            }
            if unseen_by_both && sent.challenger == self.challenger && !made.challenger.is_nan() {
                horizon.duel.add(error, (speed - f64::from(made.challenger)).abs());
            }
            spread += residual.abs();
            residuals += 1.0;
            if !regression.is_nan() {
                let (count, errors) = &mut tried[regime(filled)];
                *count += 1.0;
                for (error, share) in errors.iter_mut().zip(Trial::SHARES) {
                    *error += (speed - between(fallback, regression, share)).abs();
                }
            }
            let own = self.spreads.entry(id.clone()).or_insert_with(|| vec![[(0.0, 0.0); REGIMES]; count]);
            learn_spread(&mut own[h][regime(filled)], residual.abs());
            if snapshot.age == 0 {
                let residual = if regression.is_nan() { speed - fallback } else { speed - regression };
                horizon.regression.learn(&features(snapshot, sent.network, h), speed - filled, residual);
            }
        }
        if residuals > 0.0 {
            horizon.spread += (spread / residuals - horizon.spread) / MEMORY;
        }
        for (trial, (count, errors)) in horizon.trials.iter_mut().zip(tried) {
            if count > 0.0 {
                trial.add(errors.map(|error| error / count));
            }
        }
    }

    fn forecast(
        &mut self,
        step: i64,
        block: &Block,
        network: Network,
        [estimates, challenger]: [&Estimates; 2],
        each: &mut dyn FnMut(&str, &Snapshot, &[Forecast]),
    ) {
        let shapes: Vec<[Shape; 2]> = self
            .horizons
            .iter()
            .map(|h| [&h.residuals, h.model_residuals.as_ref().unwrap_or(&h.residuals)].map(Shape::of))
            .collect();
        let made = Vec::with_capacity(block.segments.len() * self.horizons.len());
        let mut sent = Sent { network, by: self.model.clone(), challenger: self.challenger.clone(), made };
        let mut forecasts = Vec::with_capacity(self.horizons.len());
        for (i, (id, snapshot)) in block.segments.iter().enumerate() {
            forecasts.clear();
            let own = self.spreads.get(id);
            let regime = regime(f64::from(snapshot.filled));
            for (h, horizon) in self.horizons.iter().enumerate() {
                let (fallback, regression) = (fallback(horizon, h, snapshot), regress(horizon, h, snapshot, network));
                let share = horizon.trials[regime].share();
                let trusted = regression.filter(|_| share > 0.0);
                let center = trusted.map_or(fallback, |regression| between(fallback, regression, share));
                let spread = blend(own.map(|own| own[h][regime]), horizon.spread);
                let [estimate, challenger] = [estimates, challenger].map(|all| all.get(h).and_then(|of| of[i]));
                let mut forecast = match (estimate, trusted) {
                    (Some(Estimate { center, spread }), _) => {
                        shapes[h][1].around(horizon.minutes, Maker::Model, f64::from(center), f64::from(spread))
                    }
                    (None, Some(_)) => shapes[h][0].around(horizon.minutes, Maker::Regression, center, spread),
                    (None, None) => shapes[h][0].around(horizon.minutes, Maker::Fallback, center, spread),
                };
                #[expect(clippy::cast_possible_truncation, reason = "speeds")]
                sent.made.push(Made {
                    published: forecast.median() as f32,
                    said: forecast.confidence as f32,
                    model: estimate.map_or([f32::NAN; 2], |estimate| [estimate.center, estimate.spread]),
                    stand_in: [center as f32, spread as f32],
                    fallback: fallback as f32,
                    regression: regression.unwrap_or(f64::NAN) as f32,
                    challenger: challenger.map_or(f32::NAN, |Estimate { center, spread }| {
                        shapes[h][1].median(f64::from(center), f64::from(spread)) as f32
                    }),
                });
                let of = &horizon.confidence[usize::from(estimate.is_some())];
                forecast.confidence = of.corrected(forecast.confidence);
                forecasts.push(forecast);
            }
            each(id, snapshot, &forecasts);
        }
        self.sent.insert(step, sent);
        self.fresh.push(step);
    }

    /// Forgets a segment.
    pub fn forget(&mut self, id: &str) {
        self.spreads.remove(id);
    }
}

fn regime(speed_kmh: f64) -> usize {
    match speed_kmh {
        s if s >= 80.0 => 0,
        s if s >= 50.0 => 1,
        _ => 2,
    }
}

fn between(fallback: f64, regression: f64, share: f64) -> f64 {
    fallback + share * (regression - fallback)
}

/// Where the regression puts the speed, once it has learnt enough.
fn regress(horizon: &Horizon, h: usize, snapshot: &Snapshot, network: Network) -> Option<f64> {
    let x: [f64; FEATURES] = features(snapshot, network, h);
    let change = horizon.regression.predict(&x)?;
    Some((f64::from(snapshot.filled) + change).clamp(0.0, MOST_KMH))
}

/// The last value, drawn towards the profile where there is one.
fn fallback(horizon: &Horizon, h: usize, snapshot: &Snapshot) -> f64 {
    let filled = f64::from(snapshot.filled);
    if !snapshot.profiled {
        return filled;
    }
    // The last value's worth halves in an hour.
    let minutes = f64::from(horizon.minutes);
    filled + minutes / (minutes + 60.0) * (f64::from(snapshot.ahead[h].usual) - filled)
}

fn learn_spread(own: &mut (f32, f32), residual: f64) {
    let count = (f64::from(own.1) + 1.0).min(MEMORY);
    let spread = f64::from(own.0) + (residual - f64::from(own.0)) / count;
    #[expect(clippy::cast_possible_truncation, reason = "a speed and a count")]
    {
        *own = (spread as f32, count as f32);
    }
}

fn blend(own: Option<(f32, f32)>, partition: f64) -> f64 {
    let (spread, count) = own.map_or((0.0, 0.0), |(spread, count)| (f64::from(spread), f64::from(count)));
    ((spread * count + partition * SHRINK) / (count + SHRINK)).max(LEAST_KMH)
}
