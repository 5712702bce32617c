//! Fitting a model to a series.

use std::ops::Range;

use rayon::prelude::*;

use super::STEP_MIN;
use super::boosting::{Bins, Boosting, Settings, Table};
use super::calendar::{LocalTime, Slot};
use super::features::{FEATURES, Facts, Frame};
use super::model::{Estimate, Horizon, LEAST_SPREAD_KMH, Member, Model, PERCEPTRON_SHARE, Rows, Unusual, center};
use super::network::{Edge, links};
use super::packed::Packed;
use super::perceptron::{self, Layers};
use super::profile::{AllDates, Combined, Past, Profile};
use super::residuals::Residuals;
use super::series::Series;

/// How to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Minutes ahead.
    pub horizons: Vec<u32>,
    /// Windows to fit trees, profiles and neighbours to …
    pub fit: Range<usize>,
    /// … and those that follow, held out, on which errors are measured.
    pub held_out: Range<usize>,
    pub trees: Settings,
    pub perceptron: perceptron::Settings,
    pub spread: Settings,
    /// Most rows of a horizon; of more, so many are drawn.
    pub most_rows: usize,
}

impl Plan {
    #[must_use]
    pub fn new(horizons: &[u32], fit: Range<usize>, held_out: Range<usize>) -> Self {
        let (trees, perceptron) = (Settings::default(), perceptron::Settings::default());
        let spread = Settings { trees: 60, seed: 2, ..trees.clone() };
        Self { horizons: horizons.to_vec(), fit, held_out, trees, perceptron, spread, most_rows: 1_500_000 }
    }

    /// Trees that [`fit`] grows in all.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.horizons.len() * (self.trees.trees + self.spread.trees)
    }
}

/// Fits a model; `progress` hears of every tree.
#[must_use]
pub fn fit(series: &Series, edges: &[Edge], time: &LocalTime, plan: &Plan, progress: &(dyn Fn() + Sync)) -> Model {
    let slots = series.slots(time);
    let known = members(series, edges, &slots, plan);
    let horizons =
        plan.horizons.iter().map(|minutes| fit_horizon(series, &known, &slots, time, plan, *minutes, progress));
    let horizons = horizons.collect();
    Model::new(horizons, series.segments.iter().cloned().zip(known.members).collect())
}

/// What is known of each segment from the windows of the fit, by segment.
struct Known {
    members: Vec<Member>,
    profiles: Vec<Profile>,
}

fn members(series: &Series, edges: &[Edge], slots: &[Slot], plan: &Plan) -> Known {
    let windows = plan.fit.clone();
    let profiles = series.profiles(windows.clone(), slots);
    let (first, dates) = series.by_date(windows.clone(), slots);
    let deviations: Vec<Vec<f32>> = (0..series.segments.len())
        .into_par_iter()
        .map(|segment| {
            let past = AllDates { profile: &profiles[segment], first, readings: &dates[segment] };
            deviations(&series.speeds[segment][windows.clone()], &slots[windows.clone()], &past)
        })
        .collect();
    let links = links(&deviations, edges);
    let facts = |segment: usize| facts(&series.speeds[segment][windows.clone()]);
    let member = |(segment, (links, profile))| Member { facts: facts(segment), links, profile: Packed::of(profile) };
    let members = links.into_iter().zip(&profiles).enumerate().map(member).collect();
    Known { members, profiles }
}

/// By how much speeds were above what is usual; less and less while nothing is measured.
fn deviations(speeds: &[f32], slots: &[Slot], past: &impl Past) -> Vec<f32> {
    let mut deviation = 0.0;
    let of = |(speed, slot): (&f32, &Slot)| {
        deviation *= 0.97;
        if !speed.is_nan() {
            #[expect(clippy::cast_possible_truncation, reason = "a speed")]
            if let Some(usual) = past.usual(*slot) {
                deviation = speed - usual.mean as f32;
            }
        }
        deviation
    };
    speeds.iter().zip(slots).map(of).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "speeds")]
fn facts(speeds: &[f32]) -> Facts {
    let mut sorted: Vec<f32> = speeds.iter().copied().filter(|speed| !speed.is_nan()).collect();
    if sorted.is_empty() {
        return Facts::default();
    }
    sorted.sort_unstable_by(f32::total_cmp);
    let mean_of = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0.0, 0.0_f64), |(sum, count), value| (sum + value, count + 1.0));
        sum / count.max(1.0)
    };
    let mean = mean_of(&mut sorted.iter().map(|speed| f64::from(*speed)));
    let variance = mean_of(&mut sorted.iter().map(|speed| (f64::from(*speed) - mean).powi(2)));
    let pairs = speeds.iter().zip(&speeds[12.min(speeds.len())..]).filter(|(a, b)| !a.is_nan() && !b.is_nan());
    let covariance = mean_of(&mut pairs.map(|(a, b)| (f64::from(*a) - mean) * (f64::from(*b) - mean)));
    Facts {
        free_flow: sorted[(sorted.len() - 1) * 95 / 100],
        mean: mean as f32,
        deviation: variance.sqrt() as f32,
        low: sorted[(sorted.len() - 1) * 5 / 100],
        autocorrelation: if variance > 0.0 { (covariance / variance) as f32 } else { 0.0 },
    }
}

fn fit_horizon(
    series: &Series,
    known: &Known,
    slots: &[Slot],
    time: &LocalTime,
    plan: &Plan,
    minutes: u32,
    progress: &(dyn Fn() + Sync),
) -> Horizon {
    let ahead = (minutes / STEP_MIN) as usize;
    let (first, dates) = series.by_date(plan.fit.clone(), slots);
    let pasts: Vec<AllDates<'_>> =
        known.profiles.iter().zip(&dates).map(|(profile, readings)| AllDates { profile, first, readings }).collect();
    let windows = plan.fit.start..plan.fit.end.saturating_sub(ahead);
    let (rows, targets) = rows(series, &known.members, &pasts, windows, ahead, time, plan.most_rows);
    let bins = Bins::of(rows.features(), FEATURES);
    let table = Table::new(rows.features(), &bins);
    let fit = |targets: Vec<f32>, settings: &Settings| Boosting::fit(&table, &bins, targets, settings, &|_| progress());
    let from = rows.from();
    let ((change, left), (unusual, said)) = rayon::join(
        || fit(targets.iter().zip(from).map(|(target, (filled, _))| target - filled).collect(), &plan.trees),
        || {
            let targets: Vec<f32> = targets.iter().zip(from).map(|(target, (_, usual))| target - usual).collect();
            let unusual = perceptron::fit(rows.features(), FEATURES, &targets, &plan.perceptron);
            let mut said = Vec::new();
            unusual.predict_all(rows.features(), &mut Layers::default(), &mut said);
            (unusual, said)
        },
    );
    // What is left of the change is what its trees did not say.
    let of = |i: usize, from: (f32, f32)| {
        (targets[i] - center(from, targets[i] - from.0 - left[i], said[i], PERCEPTRON_SHARE)).abs()
    };
    let errors = rows.into_from().into_iter().enumerate().map(|(i, from)| of(i, from)).collect();
    let (spread, _) = fit(errors, &plan.spread);
    let unusual = Unusual::Perceptron(unusual);
    let mut horizon = Horizon { minutes, change, unusual, spread, residuals: Residuals::default() };
    horizon.residuals = held_out_residuals(series, known, &horizon, slots, time, plan);
    horizon
}

/// Rows and targets (km/h, one a row) of some windows; as many as can be had, drawn evenly if they are more than `most`.
pub fn rows<P: Past + Sync>(
    series: &Series,
    members: &[Member],
    pasts: &[P],
    windows: Range<usize>,
    ahead: usize,
    time: &LocalTime,
    most: usize,
) -> (Rows, Vec<f32>) {
    let (mut rows, mut targets) = (Rows::default(), Vec::new());
    let all = windows.len() * series.segments.len();
    let horizons = [i64::try_from(ahead).expect("a few windows")];
    series.play(windows, pasts, &horizons, time, &mut |window, calendar, snapshots, network| {
        let segments: Vec<_> = snapshots.iter().map(Option::as_ref).collect();
        let frame = Frame::new(calendar.now, &segments, network, members);
        for (segment, snapshot) in snapshots.iter().enumerate() {
            let target = series.speeds[segment].get(window + ahead).copied().unwrap_or(f32::NAN);
            let (Some(snapshot), false) = (snapshot, target.is_nan()) else { continue };
            let mut chance = super::boosting::Chance::new((window * series.segments.len() + segment) as u64);
            #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
            if all > most && chance.unit() >= most as f64 / all as f64 {
                continue;
            }
            rows.push(snapshot, &members[segment], &frame, 0);
            targets.push(target);
        }
    });
    (rows, targets)
}

/// The errors on the windows held out, forecast as the stream does.
fn held_out_residuals(
    series: &Series,
    known: &Known,
    horizon: &Horizon,
    slots: &[Slot],
    time: &LocalTime,
    plan: &Plan,
) -> Residuals {
    let ahead = (horizon.minutes / STEP_MIN) as usize;
    let windows = plan.held_out.start..plan.held_out.end.min(series.windows()).saturating_sub(ahead);
    let mut residuals = Residuals::default();
    let seen = series.profiles(plan.fit.start..plan.held_out.end.min(series.windows()), slots);
    let pasts: Vec<_> = seen
        .iter()
        .zip(&known.profiles)
        .map(|(own, fitted)| Combined { own, fitted: Some(fitted), frozen: true })
        .collect();
    let (mut rows, targets) = rows(series, &known.members, &pasts, windows, ahead, time, usize::MAX);
    let mut estimates: Vec<Estimate> = Vec::new();
    rows.estimate(horizon, &mut estimates);
    for (estimate, target) in estimates.iter().zip(targets) {
        residuals.add(f64::from((target - estimate.center) / estimate.spread.max(LEAST_SPREAD_KMH)));
    }
    residuals
}
