//! Training: a challenger is fitted to all but the last days and has to beat the champion on them.

use std::ops::Range;

use crate::evaluate::{HorizonReport, Task};
use crate::forecast::fit::{Plan, fit};
use crate::forecast::model::Model;
use crate::forecast::network::Edge;
use crate::forecast::series::Series;
use crate::{Live, Settings, Slot};

/// Windows of a day.
const DAY: usize = 288;
/// Fewer windows than this are not worth a model.
const LEAST_WINDOWS: usize = 2 * DAY;
/// Windows before the held-out ones that the machine is fed, to look back on: a day and four hours.
const WARM_UP: usize = DAY + 48;
/// Shares of windows below this are held out at most.
const MOST_HELD_OUT: usize = 4;

/// What to train on.
pub struct Training<'a> {
    pub series: &'a Series,
    pub edges: &'a [Edge],
    pub settings: &'a Settings,
    /// Days at the end that nothing is fitted to; a quarter of all at most.
    pub held_out_days: usize,
    /// What is to be beaten.
    pub champion: Option<Model>,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{have} windows of readings are too few: a model takes {LEAST_WINDOWS} (two days), better two weeks")]
    TooShort { have: usize },
    #[error("no segment has a reading")]
    Empty,
    #[error("the machine published what is no prediction: {0}")]
    Broken(#[from] serde_json::Error),
}

/// A challenger, and how it did on days that it had not seen.
pub struct Trained {
    pub model: Model,
    pub plan: Plan,
    pub challenger: Vec<HorizonReport>,
    /// The champion on the same days.
    pub champion: Option<Vec<HorizonReport>>,
}

/// Told while a training runs: what it is at, how much of it is done, and of how much.
pub type Progress<'p> = &'p (dyn Fn(Stage, u64, u64) + Sync);

/// What a training is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Growing trees.
    Fitting,
    /// Forecasting the held-out windows: the challenger, then the champion.
    Scoring,
}

impl Training<'_> {
    /// The windows that nothing is fitted to.
    fn held_out(&self) -> Range<usize> {
        let all = self.series.windows();
        all - (self.held_out_days.max(1) * DAY).min(all / MOST_HELD_OUT)..all
    }

    /// Fits the challenger and scores both.
    ///
    /// # Errors
    /// If there is too little to train on.
    pub fn run(self, progress: Progress<'_>) -> Result<Trained, TrainError> {
        let have = self.series.windows();
        if have < LEAST_WINDOWS {
            return Err(TrainError::TooShort { have });
        }
        if self.series.speeds.iter().flatten().all(|speed| speed.is_nan()) {
            return Err(TrainError::Empty);
        }
        let held_out = self.held_out();
        let plan = Plan::new(&self.settings.horizons, 0..held_out.start, held_out.clone());
        let (trees, grown) = (plan.trees() as u64, std::sync::atomic::AtomicU64::new(0));
        let on_tree = || {
            let grown = grown.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            progress(Stage::Fitting, grown, trees);
        };
        let model = fit(self.series, self.edges, &self.settings.time, &plan, &on_tree);
        let challenger = self.score(model.clone(), &held_out, progress)?;
        let champion = self.champion.clone().map(|champion| self.score(champion, &held_out, progress)).transpose()?;
        Ok(Trained { model, plan, challenger, champion })
    }

    fn score(
        &self,
        model: Model,
        held_out: &Range<usize>,
        progress: Progress<'_>,
    ) -> Result<Vec<HorizonReport>, TrainError> {
        let fed = held_out.start.saturating_sub(WARM_UP)..held_out.end;
        let done = std::cell::Cell::new(0_u64);
        let all = fed.len() as u64;
        let task = Task {
            series: self.series,
            fitted: 0..held_out.start,
            fed,
            scored: held_out.clone(),
            partitions: 1,
            averaged: false,
        };
        let slot = Slot::default();
        let seen_until = self.series.step(held_out.start) - 1;
        slot.put(Some(Live { version: "v0.0.0".into(), model, seen_until, ..Live::default() }));
        let on_window = || {
            done.set(done.get() + 1);
            progress(Stage::Scoring, done.get(), all);
        };
        Ok(task.run(self.settings, &slot, &on_window, &mut |_| ())?)
    }
}

impl Trained {
    /// By how much the challenger's mean absolute error is below the champion's, as a share of it, over the horizons
    /// that both forecast; `None` without a champion.
    #[must_use]
    pub fn improvement(&self) -> Option<f64> {
        let champion = self.champion.as_ref()?;
        let of = |reports: &[HorizonReport], minutes: u32| {
            reports.iter().find(|report| report.horizon == minutes).map(|report| report.model.mae)
        };
        let minutes = self.challenger.iter().map(|report| report.horizon);
        let pairs = minutes.filter_map(|minutes| Some((of(&self.challenger, minutes)?, of(champion, minutes)?)));
        let (mine, theirs) = pairs.fold((0.0, 0.0), |(mine, theirs), (m, t)| (mine + m, theirs + t));
        (theirs > 0.0).then(|| 1.0 - mine / theirs)
    }

    /// Whether it should take the champion's place: better than the last value, and than the champion by `margin` of
    /// its error.
    #[must_use]
    pub fn deserves(&self, margin: f64) -> bool {
        let beats_last_value = self.challenger.iter().all(|report| report.model.mae < report.last_value.mae);
        beats_last_value && self.improvement().is_none_or(|improvement| improvement >= margin)
    }
}
