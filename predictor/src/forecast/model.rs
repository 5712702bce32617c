//! A fitted model: for each horizon what forecasts, the sum of trees that says how sure it is, and the errors it made on
//! days it had not seen; and what it knows of each segment.

use std::collections::HashMap;

use super::boosting::{Boosting, Columns};
use super::features::{FEATURES, Facts, Frame, append};
use super::network::Links;
use super::packed::Packed;
use super::perceptron::{Layers, Perceptron};
use super::residuals::Residuals;
use super::snapshot::Snapshot;

/// Least spread, km/h.
pub const LEAST_SPREAD_KMH: f32 = 0.5;

/// What is known of one segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Member {
    pub facts: Facts,
    pub links: Links,
    /// What was usual on the days of the fit.
    pub profile: Packed,
}

/// The model of one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Horizon {
    pub minutes: u32,
    /// The change from now to the target, km/h.
    pub change: Boosting,
    /// The target less what is usual then, km/h.
    pub unusual: Unusual,
    /// The absolute error of both that half of the forecasts stay below, km/h.
    pub spread: Boosting,
    /// Errors divided by the spread, of days that were held out.
    pub residuals: Residuals,
}

/// What forecasts by how much a speed will be above what is usual.
#[derive(Debug, Clone, PartialEq)]
pub enum Unusual {
    /// Of models of format 1.
    Trees(Boosting),
    Perceptron(Perceptron),
}

/// Where a model puts a speed, km/h, and its median absolute error there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub center: f32,
    pub spread: f32,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// By minutes, ascending.
    pub horizons: Vec<Horizon>,
    pub segments: Vec<Member>,
    ids: HashMap<Box<str>, u32>,
}

impl Model {
    #[must_use]
    pub fn new(horizons: Vec<Horizon>, segments: Vec<(Box<str>, Member)>) -> Self {
        let ids = (0..).zip(&segments).map(|(index, (id, _))| (id.clone(), index)).collect();
        Self { horizons, segments: segments.into_iter().map(|(_, member)| member).collect(), ids }
    }

    /// A segment's index.
    #[must_use]
    pub fn index(&self, segment: &str) -> Option<usize> {
        self.ids.get(segment).map(|index| *index as usize)
    }

    /// Ids and indices, in no order.
    pub fn ids(&self) -> impl Iterator<Item = (&str, usize)> {
        self.ids.iter().map(|(id, index)| (&**id, *index as usize))
    }

    #[must_use]
    pub fn horizon(&self, minutes: u32) -> Option<&Horizon> {
        self.horizons.iter().find(|horizon| horizon.minutes == minutes)
    }
}

/// Rows of features for one horizon, and what the trees say of them; kept to be used again.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    features: Vec<f32>,
    /// Speed now and what is usual at the target.
    from: Vec<(f32, f32)>,
    columns: Columns,
    layers: Layers,
    sums: [Vec<f32>; 3],
}

impl Rows {
    pub fn clear(&mut self) {
        self.features.clear();
        self.from.clear();
    }

    /// Adds a segment's row for the horizon with index `h` in its snapshot.
    pub fn push(&mut self, own: &Snapshot, member: &Member, frame: &Frame<'_>, h: usize) {
        append(own, &member.facts, &member.links, frame, h, &mut self.features);
        self.from.push((own.filled, own.ahead[h].usual));
    }

    #[must_use]
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// Of each row: the speed now and what is usual at the target, km/h.
    #[must_use]
    pub fn from(&self) -> &[(f32, f32)] {
        &self.from
    }

    /// The same, without the features: they are many.
    #[must_use]
    pub fn into_from(self) -> Vec<(f32, f32)> {
        self.from
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.from.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Estimates in the order of the rows.
    pub fn estimate(&mut self, horizon: &Horizon, into: &mut Vec<Estimate>) {
        let [change, unusual, spread] = &mut self.sums;
        self.columns.fill(&self.features, FEATURES);
        horizon.change.predict_all(&self.columns, change);
        let share = horizon.unusual.share();
        match &horizon.unusual {
            Unusual::Trees(trees) => trees.predict_all(&self.columns, unusual),
            Unusual::Perceptron(perceptron) => perceptron.predict_all(&self.features, &mut self.layers, unusual),
        }
        horizon.spread.predict_all(&self.columns, spread);
        into.clear();
        for ((from, spread), (change, unusual)) in self.from.iter().zip(spread).zip(change.iter().zip(unusual)) {
            let center = center(*from, *change, *unusual, share);
            into.push(Estimate { center, spread: spread.max(LEAST_SPREAD_KMH) });
        }
    }
}

impl Unusual {
    /// How much of the forecast it is; the rest is said by the change from now.
    #[must_use]
    pub fn share(&self) -> f32 {
        match self {
            Self::Trees(_) => 0.5,
            Self::Perceptron(_) => PERCEPTRON_SHARE,
        }
    }
}

/// Chosen by cross-validation over days; a little more were better far ahead, a little less near.
pub const PERCEPTRON_SHARE: f32 = 0.4;

/// Between what both targets make of a row: each errs elsewhere.
#[must_use]
pub fn center((filled, usual): (f32, f32), change: f32, unusual: f32, share: f32) -> f32 {
    (1.0 - share) * (filled + change) + share * (usual + unusual)
}
