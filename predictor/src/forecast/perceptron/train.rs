//! Finding the weights: least absolute errors by stochastic gradient descent (`AdamW`: Loshchilov and Hutter 2019), the
//! steps growing at first and then falling as a cosine does. Inputs are left out at random (Srivastava et al. 2014):
//! otherwise it believes in what held on the few days that it saw.

use super::matrix::{Matrix, WIDE};
use super::{Layers, Perceptron, SCALE_KMH, Shape, append_plain};
use crate::forecast::boosting::Chance;

/// How to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Numbers that a layer holds, a multiple of 8.
    pub hidden: usize,
    /// How often each row is seen …
    pub passes: usize,
    /// … unless that were more rows than this.
    pub most_rows: usize,
    /// Rows of a step.
    pub batch: usize,
    pub learning_rate: f32,
    pub weight_decay: f32,
    /// The share of inputs that is left out.
    pub dropout: f32,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hidden: 64,
            passes: 3,
            most_rows: 1_400_000,
            batch: 256,
            learning_rate: 0.004,
            weight_decay: 0.5,
            dropout: 0.1,
            seed: 7,
        }
    }
}

/// The share of steps that grow.
const WARMING: f32 = 0.1;
/// How slowly means of gradients and of their squares change.
const MOMENTUM: f32 = 0.9;
const SQUARES: f32 = 0.999;

/// Fits to targets (km/h, one a row of `width` features).
///
/// # Panics
/// If there are not as many targets as rows.
#[must_use]
pub fn fit(rows: &[f32], width: usize, targets: &[f32], settings: &Settings) -> Perceptron {
    assert_eq!(rows.len(), targets.len() * width, "one target a row");
    let mut chance = Chance::new(settings.seed);
    let mut perceptron = begin(rows, width, settings, &mut chance);
    let batch = settings.batch.min(targets.len()) / WIDE * WIDE;
    if batch == 0 {
        return perceptron;
    }
    let steps = (settings.passes * targets.len()).min(settings.most_rows) / batch;
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let mut next = order.len();
    let mut descent = Descent::new(perceptron.weights.len());
    for step in 0..steps {
        if next + batch > order.len() {
            shuffle(&mut order, &mut chance);
            next = 0;
        }
        let drawn = &order[next..next + batch];
        next += batch;
        descent.layers.inputs.clear();
        for row in drawn {
            perceptron.append_inputs(&rows[row * width..][..width], &mut descent.layers.inputs);
        }
        for input in &mut descent.layers.inputs {
            #[expect(clippy::cast_possible_truncation, reason = "a probability")]
            if (chance.unit() as f32) < settings.dropout {
                *input = 0.0;
            }
        }
        descent.backward(&perceptron, drawn.iter().map(|row| targets[*row]));
        #[expect(clippy::cast_precision_loss, reason = "some thousand steps")]
        let done = step as f32 / steps as f32;
        descent.step(&mut perceptron, settings.learning_rate * rate(done), settings.weight_decay);
    }
    perceptron
}

/// How large a step is after a share of all.
fn rate(done: f32) -> f32 {
    if done < WARMING {
        done / WARMING
    } else {
        0.5 + 0.5 * (std::f32::consts::PI * (done - WARMING) / (1.0 - WARMING)).cos()
    }
}

fn shuffle(order: &mut [usize], chance: &mut Chance) {
    for i in (1..order.len()).rev() {
        order.swap(i, usize::try_from(chance.next() % (i as u64 + 1)).expect("below the length"));
    }
}

/// One that says 0 whatever it is asked, and whose inner weights are chance.
fn begin(rows: &[f32], width: usize, settings: &Settings, chance: &mut Chance) -> Perceptron {
    let shape = Shape { features: width, hidden: settings.hidden.next_multiple_of(WIDE) };
    let (means, factors) = spreads(rows, width);
    let mut weights = vec![0.0; shape.sizes().iter().sum()];
    let parts = shape.parts_mut(&mut weights);
    let mut fill = |weights: &mut [f32], inputs: usize, variance: f64| {
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let scale = (3.0 * variance / inputs as f64).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "chance")]
        weights.iter_mut().for_each(|weight| *weight = (scale * (2.0 * chance.unit() - 1.0)) as f32);
    };
    fill(parts.enter, shape.inputs(), 1.0);
    fill(parts.inner, shape.hidden, 2.0);
    fill(parts.outer, shape.hidden, 0.2);
    Perceptron { shape, means, factors, weights }
}

/// Mean of each input, and one divided by its standard deviation.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "speeds")]
fn spreads(rows: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let mut plain = Vec::new();
    append_plain(&vec![0.0; width], &mut plain);
    let mut sums = vec![(0.0_f64, 0.0_f64); plain.len()];
    for row in rows.chunks_exact(width) {
        plain.clear();
        append_plain(row, &mut plain);
        for ((sum, squares), value) in sums.iter_mut().zip(&plain) {
            *sum += f64::from(*value);
            *squares += f64::from(*value).powi(2);
        }
    }
    let count = (rows.len() / width).max(1) as f64;
    let of = |(sum, squares): (f64, f64)| {
        let mean = sum / count;
        // One that never changes says nothing; what it says later is cut off.
        (mean as f32, (1.0 / ((squares / count - mean * mean).max(0.0).sqrt() + 1e-3)) as f32)
    };
    sums.into_iter().map(of).unzip()
}

/// Gradients, and what is remembered of earlier ones.
struct Descent {
    layers: Layers,
    /// Of the layers' values: of what is left, of what is inside.
    of_left: Vec<f32>,
    of_inside: Vec<f32>,
    gradients: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
    steps: i32,
}

impl Descent {
    fn new(weights: usize) -> Self {
        let nothing = || vec![0.0; weights];
        Self {
            layers: Layers::default(),
            of_left: Vec::new(),
            of_inside: Vec::new(),
            gradients: nothing(),
            means: nothing(),
            squares: nothing(),
            steps: 0,
        }
    }

    /// The gradients of the mean absolute error over the rows whose inputs are filled in.
    fn backward(&mut self, perceptron: &Perceptron, targets: impl ExactSizeIterator<Item = f32>) {
        perceptron.forward(&mut self.layers);
        let Layers { inputs, entered, inside, left, product } = &mut self.layers;
        let shape = perceptron.shape;
        let hidden = shape.hidden;
        let parts = shape.parts(&perceptron.weights);
        self.gradients.fill(0.0);
        let gradients = shape.parts_mut(&mut self.gradients);
        self.of_left.clear();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred rows")]
        let share = 1.0 / targets.len() as f32;
        for (left, target) in left.chunks_exact(hidden).zip(targets) {
            let error = perceptron.output(left) * SCALE_KMH - target;
            // Flat within 1 km/h: steps would never come to rest otherwise.
            let slope = share * error.clamp(-1.0, 1.0);
            gradients.leave.iter_mut().zip(left).for_each(|(gradient, left)| *gradient += slope * left);
            gradients.leave_bias[0] += slope;
            self.of_left.extend(parts.leave.iter().map(|weight| slope * weight));
        }
        add_rows(&self.of_left, gradients.outer_bias);
        product.add(Matrix::new(inside, hidden).transposed(), Matrix::new(&self.of_left, hidden), gradients.outer);
        self.of_inside.clear();
        self.of_inside.resize(inside.len(), 0.0);
        let outer = Matrix::new(parts.outer, hidden).transposed();
        product.add(Matrix::new(&self.of_left, hidden), outer, &mut self.of_inside);
        only_above_zero(&mut self.of_inside, inside);
        add_rows(&self.of_inside, gradients.inner_bias);
        product.add(Matrix::new(entered, hidden).transposed(), Matrix::new(&self.of_inside, hidden), gradients.inner);
        // What is left holds what entered, too.
        let inner = Matrix::new(parts.inner, hidden).transposed();
        product.add(Matrix::new(&self.of_inside, hidden), inner, &mut self.of_left);
        only_above_zero(&mut self.of_left, entered);
        add_rows(&self.of_left, gradients.enter_bias);
        let inputs = Matrix::new(inputs, shape.inputs()).transposed();
        product.add(inputs, Matrix::new(&self.of_left, hidden), gradients.enter);
    }

    fn step(&mut self, perceptron: &mut Perceptron, rate: f32, decay: f32) {
        self.steps += 1;
        let (of_mean, of_square) = (1.0 - MOMENTUM.powi(self.steps), 1.0 - SQUARES.powi(self.steps));
        let (matrices, kept) = (perceptron.shape.matrices(), 1.0 - rate * decay);
        perceptron.weights[..matrices].iter_mut().for_each(|weight| *weight *= kept);
        let remembered = self.means.iter_mut().zip(&mut self.squares);
        for ((weight, gradient), (mean, square)) in perceptron.weights.iter_mut().zip(&self.gradients).zip(remembered) {
            *mean = MOMENTUM * *mean + (1.0 - MOMENTUM) * gradient;
            *square = SQUARES * *square + (1.0 - SQUARES) * gradient * gradient;
            *weight -= rate * (*mean / of_mean) / ((*square / of_square).sqrt() + 1e-8);
        }
    }
}

fn only_above_zero(gradients: &mut [f32], values: &[f32]) {
    gradients.iter_mut().zip(values).filter(|(_, value)| **value <= 0.0).for_each(|(gradient, _)| *gradient = 0.0);
}

fn add_rows(rows: &[f32], into: &mut [f32]) {
    for row in rows.chunks_exact(into.len()) {
        into.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
