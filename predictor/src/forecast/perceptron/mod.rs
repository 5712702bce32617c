//! A small multilayer perceptron with a residual block (He et al. 2016), for what trees do badly: sums of many small
//! influences.
//!
//! | file | owns |
//! |---|---|
//! | `matrix.rs` | products of matrices |
//! | `train.rs` | finding the weights |
//!
//! With inputs x, each less its mean and divided by its spread: h = relu(x·A + a), k = h + relu(h·B + b)·C + c,
//! and the output is k·d + e.

mod matrix;
mod train;

use matrix::{Matrix, Product, WIDE};
pub use train::{Settings, fit};

use super::features::TIME_OF_DAY;
use super::profile::BINS_PER_DAY;
use crate::bytes::{Reader, Writer};

/// Rows that are asked about at once.
const BLOCK: usize = 256;
/// Sine and cosine of the day and of its half and third.
const HARMONICS: usize = 3;
/// Inputs are cut off at so many spreads.
const FAR: f32 = 6.0;
/// What an output of 1 stands for, km/h.
const SCALE_KMH: f32 = 10.0;

/// How many numbers go in and how many each layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Shape {
    features: usize,
    hidden: usize,
}

/// The parts of what is learnt, one after the other: matrices, then what is added after each.
#[derive(Debug)]
struct Parts<T> {
    enter: T,
    inner: T,
    outer: T,
    leave: T,
    enter_bias: T,
    inner_bias: T,
    outer_bias: T,
    leave_bias: T,
}

impl Shape {
    /// Instead of the time of day its harmonics; then zeros, so that products come out even.
    fn inputs(self) -> usize {
        (self.features - 1 + 2 * HARMONICS).next_multiple_of(WIDE)
    }

    fn sizes(self) -> [usize; 8] {
        let (inputs, hidden) = (self.inputs(), self.hidden);
        [inputs * hidden, hidden * hidden, hidden * hidden, hidden, hidden, hidden, hidden, 1]
    }

    /// How many of the weights are of matrices.
    fn matrices(self) -> usize {
        self.sizes()[..4].iter().sum()
    }

    fn parts(self, mut weights: &[f32]) -> Parts<&[f32]> {
        let [enter, inner, outer, leave, enter_bias, inner_bias, outer_bias, leave_bias] =
            self.sizes().map(|size| weights.split_off(..size).expect("as many as the sizes say"));
        Parts { enter, inner, outer, leave, enter_bias, inner_bias, outer_bias, leave_bias }
    }

    fn parts_mut(self, mut weights: &mut [f32]) -> Parts<&mut [f32]> {
        let [enter, inner, outer, leave, enter_bias, inner_bias, outer_bias, leave_bias] =
            self.sizes().map(|size| weights.split_off_mut(..size).expect("as many as the sizes say"));
        Parts { enter, inner, outer, leave, enter_bias, inner_bias, outer_bias, leave_bias }
    }
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Perceptron {
    shape: Shape,
    /// Of each input its mean, and what the rest is multiplied by.
    means: Vec<f32>,
    factors: Vec<f32>,
    weights: Vec<f32>,
}

/// What is used again from block to block: the layers' values, a row after the other.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    inputs: Vec<f32>,
    /// h, relu(h·B + b) and k.
    entered: Vec<f32>,
    inside: Vec<f32>,
    left: Vec<f32>,
    product: Product,
}

impl Perceptron {
    /// Predictions for rows of features, km/h.
    pub fn predict_all(&self, features: &[f32], layers: &mut Layers, into: &mut Vec<f32>) {
        into.clear();
        for rows in features.chunks(BLOCK * self.shape.features.max(1)) {
            layers.inputs.clear();
            for row in rows.chunks_exact(self.shape.features) {
                self.append_inputs(row, &mut layers.inputs);
            }
            self.forward(layers);
            let outputs = layers.left.chunks_exact(self.shape.hidden).map(|left| SCALE_KMH * self.output(left));
            into.extend(outputs.take(rows.len() / self.shape.features));
        }
    }

    fn append_inputs(&self, row: &[f32], into: &mut Vec<f32>) {
        let from = into.len();
        append_plain(row, into);
        for (input, (mean, factor)) in into[from..].iter_mut().zip(self.means.iter().zip(&self.factors)) {
            let spreads = (*input - mean) * factor;
            // What nobody knows is as it is on average.
            *input = if spreads.is_nan() { 0.0 } else { spreads.clamp(-FAR, FAR) };
        }
        into.resize(from + self.shape.inputs(), 0.0);
    }

    /// Fills all layers from the inputs; to whole bands of rows.
    fn forward(&self, layers: &mut Layers) {
        let (inputs, hidden, parts) = (self.shape.inputs(), self.shape.hidden, self.shape.parts(&self.weights));
        let rows = (layers.inputs.len() / inputs).next_multiple_of(WIDE);
        layers.inputs.resize(rows * inputs, 0.0);
        let Layers { inputs: x, entered, inside, left, product } = layers;
        repeat(parts.enter_bias, rows, entered);
        product.add(Matrix::new(x, inputs), Matrix::new(parts.enter, hidden), entered);
        entered.iter_mut().for_each(|value| *value = value.max(0.0));
        repeat(parts.inner_bias, rows, inside);
        product.add(Matrix::new(entered, hidden), Matrix::new(parts.inner, hidden), inside);
        inside.iter_mut().for_each(|value| *value = value.max(0.0));
        repeat(parts.outer_bias, rows, left);
        left.iter_mut().zip(&*entered).for_each(|(left, entered)| *left += entered);
        product.add(Matrix::new(inside, hidden), Matrix::new(parts.outer, hidden), left);
    }

    fn output(&self, left: &[f32]) -> f32 {
        let parts = self.shape.parts(&self.weights);
        parts.leave_bias[0] + left.iter().zip(parts.leave).map(|(left, weight)| left * weight).sum::<f32>()
    }

    pub fn encode(&self, out: &mut Writer<'_>) {
        out.u32(u32::try_from(self.shape.hidden).expect("a few dozen"));
        [&self.means, &self.factors, &self.weights].into_iter().flatten().for_each(|number| out.f32(*number));
    }

    /// `None` if the bytes are no perceptron over `features` features.
    pub fn decode(fields: &mut Reader<'_>, features: usize) -> Option<Self> {
        let hidden = usize::try_from(fields.u32()?).ok()?;
        if hidden == 0 || hidden > MOST_HIDDEN || !hidden.is_multiple_of(WIDE) || features <= TIME_OF_DAY {
            return None;
        }
        let shape = Shape { features, hidden };
        let mut numbers = |count: usize| {
            (0..count).map(|_| fields.f32().filter(|number| number.is_finite())).collect::<Option<Vec<f32>>>()
        };
        let plain = features - 1 + 2 * HARMONICS;
        let (means, factors) = (numbers(plain)?, numbers(plain)?);
        Some(Self { shape, means, factors, weights: numbers(shape.sizes().iter().sum())? })
    }
}

/// Most numbers that a layer of what is read may hold.
const MOST_HIDDEN: usize = 1_024;

/// A row's inputs as they are measured.
fn append_plain(row: &[f32], into: &mut Vec<f32>) {
    into.extend(row.iter().enumerate().filter(|(feature, _)| *feature != TIME_OF_DAY).map(|(_, value)| value));
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let day = row[TIME_OF_DAY] / BINS_PER_DAY as f32 * std::f32::consts::TAU;
    for harmonic in [1.0, 2.0, 3.0_f32].into_iter().take(HARMONICS) {
        into.extend([(harmonic * day).sin(), (harmonic * day).cos()]);
    }
}

fn repeat(row: &[f32], times: usize, into: &mut Vec<f32>) {
    into.clear();
    (0..times).for_each(|_| into.extend_from_slice(row));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::boosting::Chance;
    use crate::forecast::features::FEATURES;

    /// Rows of noise, and targets that many columns have a small share in.
    #[expect(clippy::cast_possible_truncation, reason = "noise")]
    fn data(rows: usize) -> (Vec<f32>, Vec<f32>) {
        let mut chance = Chance::new(5);
        let features: Vec<f32> = (0..rows * FEATURES).map(|_| chance.unit() as f32 * 20.0 + 40.0).collect();
        let target = |x: &[f32]| x[..40].iter().sum::<f32>() - 2_000.0 + (x[60] - 50.0).abs();
        let targets = features.chunks(FEATURES).map(target).collect();
        (features, targets)
    }

    fn mean_error(perceptron: &Perceptron, features: &[f32], targets: &[f32]) -> f32 {
        let mut predicted = Vec::new();
        perceptron.predict_all(features, &mut Layers::default(), &mut predicted);
        assert_eq!(predicted.len(), targets.len());
        let errors = predicted.iter().zip(targets).map(|(predicted, target)| (predicted - target).abs());
        #[expect(clippy::cast_precision_loss, reason = "some thousand rows")]
        let mean = errors.sum::<f32>() / targets.len() as f32;
        mean
    }

    #[test]
    fn it_learns_what_it_was_not_shown() {
        let (features, targets) = data(12_000);
        let (seen, unseen) = features.split_at(10_000 * FEATURES);
        let settings = Settings { passes: 10, ..Settings::default() };
        let perceptron = fit(seen, FEATURES, &targets[..10_000], &settings);
        let error = mean_error(&perceptron, unseen, &targets[10_000..]);
        let nothing = fit(&[], FEATURES, &[], &settings);
        let without = mean_error(&nothing, unseen, &targets[10_000..]);
        assert!(error < 0.25 * without, "{error} of {without}");
    }

    #[test]
    fn asking_alone_or_together_is_the_same_and_so_is_fitting_again() {
        let (features, targets) = data(1_000);
        let perceptron = fit(&features, FEATURES, &targets, &Settings::default());
        assert_eq!(perceptron, fit(&features, FEATURES, &targets, &Settings::default()));
        let (mut layers, mut all, mut one) = (Layers::default(), Vec::new(), Vec::new());
        perceptron.predict_all(&features, &mut layers, &mut all);
        for (row, together) in features.chunks(FEATURES).zip(&all) {
            perceptron.predict_all(row, &mut layers, &mut one);
            assert_eq!(one, [*together]);
        }
    }

    #[test]
    fn what_is_not_known_is_as_on_average() {
        let (features, targets) = data(300);
        let perceptron = fit(&features, FEATURES, &targets, &Settings::default());
        let (mut layers, mut said) = (Layers::default(), Vec::new());
        let mut row = features[..FEATURES].to_vec();
        row[3] = f32::NAN;
        perceptron.predict_all(&row, &mut layers, &mut said);
        let with_nan = said.clone();
        row[3] = perceptron.means[3];
        perceptron.predict_all(&row, &mut layers, &mut said);
        assert!(said[0].is_finite() && said == with_nan, "{said:?} {with_nan:?}");
    }

    #[test]
    fn it_is_read_back_as_it_was_and_broken_bytes_are_none() {
        let (features, targets) = data(300);
        let perceptron = fit(&features, FEATURES, &targets, &Settings { hidden: 8, ..Settings::default() });
        let mut bytes = Vec::new();
        perceptron.encode(&mut Writer::plain(&mut bytes));
        let read = |bytes: &[u8]| Perceptron::decode(&mut Reader::plain(bytes), FEATURES);
        assert_eq!(read(&bytes), Some(perceptron));
        (0..bytes.len()).for_each(|cut| assert_eq!(read(&bytes[..cut]), None));
        bytes[0] = 9;
        assert_eq!(read(&bytes), None);
    }
}
