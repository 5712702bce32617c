//! Gradient boosting of regression trees on binned features (Friedman 2001; histograms and leaf-wise growth: Ke et al.,
//! LightGBM, 2017).
//!
//! | file | owns |
//! |---|---|
//! | `bins.rs` | features to at most 128 bins each |
//! | `grow.rs` | one tree: histograms, splits, leaves |
//! | `loss.rs` | gradients, and what a leaf says |
//! | `panels.rs` | columns in groups of eight, which trees draw |
//! | `reach.rs` | a tree asked about many rows at once |
//! | `tree.rs` | a finished tree and how it is walked |
//!
//! Histograms are sums of integers, so a fit gives the same trees for any number of threads.

mod bins;
mod grow;
mod loss;
mod panels;
mod reach;
mod tree;

pub use bins::{Bins, Table};
use grow::Grower;
pub use loss::Loss;
pub use reach::Columns;
use reach::{BLOCK, Reach};
pub use tree::Tree;

use crate::bytes::{Reader, Writer};

/// How to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub loss: Loss,
    pub trees: usize,
    /// Most leaves of a tree.
    pub leaves: usize,
    pub learning_rate: f32,
    /// Fewest rows of a leaf.
    pub leaf_rows: usize,
    /// Shares of rows and columns that each tree sees; of columns, to the nearest group of eight.
    pub row_share: f64,
    pub column_share: f64,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            loss: Loss::Absolute,
            trees: 250,
            leaves: 31,
            learning_rate: 0.09,
            leaf_rows: 150,
            row_share: 0.5,
            column_share: 0.25,
            seed: 1,
        }
    }
}

/// A sum of trees.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Boosting {
    base: f32,
    trees: Vec<Tree>,
    /// The same trees to ask about many rows; `None` of one that is too large for it.
    reaches: Vec<Option<Reach>>,
}

/// Fewer rows than this are asked about one by one.
const FEW: usize = 16;

impl Boosting {
    fn new(base: f32, trees: Vec<Tree>) -> Self {
        let reaches = trees.iter().map(Reach::of).collect();
        Self { base, trees, reaches }
    }

    /// Fits `targets` (one a row of `table`); `progress` hears of each tree, as the number of trees so far. Returns what the
    /// trees leave of each target, too.
    ///
    /// # Panics
    /// If there are not as many targets as rows.
    #[must_use]
    pub fn fit(
        table: &Table,
        bins: &Bins,
        targets: Vec<f32>,
        settings: &Settings,
        progress: &dyn Fn(usize),
    ) -> (Self, Vec<f32>) {
        assert_eq!(table.rows(), targets.len(), "one target a row");
        let mut residuals = targets;
        let base = if residuals.is_empty() { 0.0 } else { settings.loss.leaf(&residuals) };
        residuals.iter_mut().for_each(|residual| *residual -= base);
        let mut grower = Grower::new(table, settings);
        let mut trees = Vec::with_capacity(settings.trees);
        for number in 0..settings.trees {
            let Some(tree) = grower.grow(&mut residuals, bins, number) else { break };
            trees.push(tree);
            progress(number + 1);
        }
        (Self::new(base, trees), residuals)
    }

    /// The prediction for one row of features.
    #[must_use]
    pub fn predict(&self, features: &[f32]) -> f32 {
        self.trees.iter().fold(self.base, |sum, tree| sum + tree.of_features(features))
    }

    /// Predictions for many rows: block by block, so that a block stays in cache.
    pub fn predict_all(&self, columns: &Columns, into: &mut Vec<f32>) {
        into.clear();
        into.resize(columns.rows(), self.base);
        for (block, sums) in into.chunks_mut(BLOCK).enumerate() {
            for (tree, reach) in self.trees.iter().zip(&self.reaches) {
                match reach {
                    Some(reach) if sums.len() >= FEW => {
                        let column = |feature: usize| columns.column(block, feature);
                        reach.each(column, |cut| cut.threshold, sums, |sum, value| *sum += value);
                    }
                    _ => {
                        for (row, sum) in sums.iter_mut().enumerate() {
                            *sum += tree.of(|feature| columns.column(block, feature)[row]);
                        }
                    }
                }
            }
        }
    }

    /// How much each of `features` features brought: the sum of its splits' gains.
    #[must_use]
    pub fn importance(&self, features: usize) -> Vec<f64> {
        let mut sums = vec![0.0; features];
        for (feature, gain) in self.trees.iter().flat_map(Tree::gains) {
            sums[feature] += f64::from(gain);
        }
        sums
    }

    pub fn encode(&self, out: &mut Writer<'_>) {
        out.f32(self.base);
        out.u32(u32::try_from(self.trees.len()).expect("a few hundred trees"));
        self.trees.iter().for_each(|tree| tree.encode(out));
    }

    /// `None` if the bytes are no sum of trees over `features` features.
    pub fn decode(fields: &mut Reader<'_>, features: usize) -> Option<Self> {
        let (base, count) = (fields.f32()?, fields.u32()?);
        let trees = (0..count).map(|_| Tree::decode(fields, features)).collect::<Option<_>>()?;
        base.is_finite().then(|| Self::new(base, trees))
    }
}

/// A cheap source of reproducible chance (`SplitMix64`: Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 5;

    /// Rows of noise, and targets that depend on the first three columns.
    #[expect(clippy::cast_possible_truncation, reason = "noise")]
    fn data(rows: usize) -> (Vec<f32>, Vec<f32>) {
        let mut chance = Chance::new(11);
        let features: Vec<f32> = (0..rows * WIDTH).map(|_| chance.unit() as f32 * 10.0 - 5.0).collect();
        let target = |x: &[f32]| x[0] * 2.0 + if x[1] > 1.0 { 8.0 } else { 0.0 } + x[2] * x[2] * 0.3;
        let targets = features.chunks(WIDTH).map(|x| target(x) + (chance.unit() as f32 - 0.5) * 2.0).collect();
        (features, targets)
    }

    fn fit(features: &[f32], targets: &[f32], settings: &Settings) -> Boosting {
        let bins = Bins::of(features, WIDTH);
        Boosting::fit(&Table::new(features, &bins), &bins, targets.to_vec(), settings, &|_| ()).0
    }

    fn few() -> Settings {
        Settings { trees: 60, leaf_rows: 20, column_share: 1.0, ..Settings::default() }
    }

    fn mean_error(model: &Boosting, features: &[f32], targets: &[f32]) -> f64 {
        let errors = features.chunks(WIDTH).zip(targets).map(|(x, y)| f64::from((model.predict(x) - y).abs()));
        #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
        let mean = errors.sum::<f64>() / targets.len() as f64;
        mean
    }

    #[test]
    fn it_learns_what_it_was_not_shown_and_its_error_falls_tree_by_tree() {
        let (features, targets) = data(12_000);
        let (seen, unseen) = features.split_at(10_000 * WIDTH);
        let mut before = f64::INFINITY;
        for trees in [1, 5, 20, 60] {
            let model = fit(seen, &targets[..10_000], &Settings { trees, row_share: 1.0, ..few() });
            let error = mean_error(&model, seen, &targets[..10_000]);
            assert!(error < before, "{trees} trees: {error}, fewer: {before}");
            before = error;
        }
        let model = fit(seen, &targets[..10_000], &few());
        let error = mean_error(&model, unseen, &targets[10_000..]);
        assert!(error < 0.75, "{error}: the noise alone is 0.5");
    }

    #[test]
    fn growing_features_change_nothing() {
        let (features, targets) = data(4_000);
        let stretched: Vec<f32> = features.iter().map(|x| (x / 3.0).exp()).collect();
        let (model, other) = (fit(&features, &targets, &few()), fit(&stretched, &targets, &few()));
        for (x, y) in features.chunks(WIDTH).zip(stretched.chunks(WIDTH)) {
            assert_eq!(model.predict(x), other.predict(y));
        }
    }

    #[test]
    fn threads_and_the_way_of_asking_change_nothing() {
        let (features, targets) = data(40_000);
        for (loss, leaves) in
            [(Loss::Absolute, 31), (Loss::Squared, 32), (Loss::Quantile(0.9), 33), (Loss::Absolute, 2)]
        {
            let settings = Settings { loss, leaves, trees: 10, ..few() };
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                pool.install(|| fit(&features, &targets, &settings))
            };
            let model = with(1);
            assert_eq!(model, with(3));
            let bins = Bins::of(&features, WIDTH);
            let table = Table::new(&features, &bins);
            let (again, left) = Boosting::fit(&table, &bins, targets.clone(), &settings, &|_| ());
            assert_eq!(model, again);
            for ((x, y), left) in features.chunks(WIDTH).zip(&targets).zip(left) {
                assert!((y - model.predict(x) - left).abs() < 1e-3, "{y}: {left} is left");
            }
            let (mut columns, mut all) = (Columns::default(), Vec::new());
            for rows in [40_000, 300, 256, 20, 3, 0] {
                columns.fill(&features[..rows * WIDTH], WIDTH);
                model.predict_all(&columns, &mut all);
                assert_eq!(all.len(), rows);
                features.chunks(WIDTH).zip(&all).for_each(|(x, sum)| assert_eq!(model.predict(x), *sum));
            }
        }
    }

    #[test]
    fn a_quantile_is_exceeded_as_often_as_it_says() {
        let (features, targets) = data(20_000);
        let model = fit(&features, &targets, &Settings { loss: Loss::Quantile(0.9), trees: 200, ..few() });
        let below = features.chunks(WIDTH).zip(&targets).filter(|(x, y)| **y <= model.predict(x)).count();
        assert!((17_600..18_500).contains(&below), "{below} of 20000");
        let mean = fit(&features, &targets, &Settings { loss: Loss::Squared, ..few() });
        assert!(mean_error(&mean, &features, &targets) < 0.75);
    }

    #[test]
    fn too_few_rows_make_a_constant_and_no_row_is_no_error() {
        let (features, targets) = data(30);
        let model = fit(&features, &targets, &Settings::default());
        assert_eq!(model.predict(&features[..WIDTH]), model.predict(&[0.0; WIDTH]));
        assert_eq!(fit(&[], &[], &Settings::default()).predict(&[0.0; WIDTH]), 0.0);
    }

    #[test]
    fn it_is_read_back_as_it_was_and_broken_bytes_are_none() {
        let (features, targets) = data(5_000);
        let model = fit(&features, &targets, &Settings { trees: 5, ..few() });
        let mut bytes = Vec::new();
        model.encode(&mut Writer::plain(&mut bytes));
        let read = |bytes: &[u8]| Boosting::decode(&mut Reader::plain(bytes), WIDTH);
        let back = read(&bytes).expect("what was written");
        features.chunks(WIDTH).for_each(|x| assert_eq!(model.predict(x), back.predict(x)));
        assert_eq!(Boosting::decode(&mut Reader::plain(&bytes), 2), None);
        (0..bytes.len()).for_each(|cut| assert_eq!(read(&bytes[..cut]), None));
        // Whatever else it is, walking it ends.
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            assert!(read(&broken).is_none_or(|model| model.predict(&features[..WIDTH]).is_finite()), "byte {at}");
        }
    }
}
