//! Growing one tree, leaf by leaf: the split that gains most comes next.

use rayon::prelude::*;

use super::bins::{Bins, MOST, MOST_COLUMNS, Table};
use super::tree::{Split, Tree};
use super::{Chance, Settings};

/// Sums of gradients (upper half) and numbers of rows (lower half) by column and bin. Both at once are one addition, and
/// a sibling is one subtraction.
type Histogram = Vec<i64>;

/// Rows that one task sums up.
const CHUNK: usize = 1 << 13;

/// A leaf that may be split further.
struct Leaf {
    /// Its rows, as a range of [`Grower::rows`].
    from: usize,
    to: usize,
    histogram: Histogram,
    best: Option<Candidate>,
    /// The split and side that lead here.
    parent: Option<(usize, bool)>,
}

#[derive(Clone, Copy)]
struct Candidate {
    gain: f64,
    /// Index among the tree's columns.
    column: usize,
    /// The last bin that goes left.
    bin: usize,
}

/// What is used again from tree to tree.
pub struct Grower<'t> {
    table: &'t Table,
    settings: &'t Settings,
    rows: Vec<u32>,
    unseen: Vec<u32>,
    /// Rows that go right while a leaf is split.
    right: Vec<u32>,
    gradients: Vec<i32>,
    columns: Vec<usize>,
    spare: Vec<Histogram>,
}

impl<'t> Grower<'t> {
    pub fn new(table: &'t Table, settings: &'t Settings) -> Self {
        let (rows, unseen, right, gradients, columns, spare) = Default::default();
        Self { table, settings, rows, unseen, right, gradients, columns, spare }
    }

    /// The tree that lowers the loss of these residuals most, and lowers them by it; `None` if there is nothing to split.
    pub fn grow(&mut self, residuals: &mut [f32], bins: &Bins, number: usize) -> Option<Tree> {
        self.settings.loss.gradients(residuals, &mut self.gradients);
        self.draw(number as u64);
        let root = self.histogram(0, self.rows.len());
        let best = self.best_split(&root);
        let mut leaves = vec![Leaf { from: 0, to: self.rows.len(), histogram: root, best, parent: None }];
        let mut splits: Vec<Split> = Vec::with_capacity(self.settings.leaves - 1);
        while leaves.len() < self.settings.leaves {
            let gain = |leaf: &Leaf| leaf.best.map_or(0.0, |best| best.gain);
            // The first of equals, so that the order is always the same.
            let Some(chosen) = (0..leaves.len()).rev().max_by(|a, b| gain(&leaves[*a]).total_cmp(&gain(&leaves[*b])))
            else {
                break;
            };
            let Some(best) = leaves[chosen].best else { break };
            let leaf = leaves.swap_remove(chosen);
            let feature = self.columns[best.column];
            let at = splits.len();
            link(&mut splits, leaf.parent, i16::try_from(at).expect("at most 256 leaves"));
            #[expect(clippy::cast_possible_truncation, reason = "a measure of importance")]
            splits.push(Split {
                threshold: bins.edge(feature, best.bin),
                feature: u16::try_from(feature).expect("features are few"),
                bin: u8::try_from(best.bin).expect("at most 128 bins"),
                left: 0,
                right: 0,
                gain: best.gain as f32,
            });
            let (left, right) = self.split(leaf, feature, best.bin, at);
            leaves.extend([left, right]);
        }
        let tree = (!splits.is_empty()).then(|| self.finish(splits, &leaves, residuals));
        if let Some(tree) = &tree {
            for (leaf, value) in leaves.iter().zip(&tree.leaves) {
                self.rows[leaf.from..leaf.to].iter().for_each(|row| residuals[*row as usize] -= value);
            }
            self.unseen.iter().for_each(|row| residuals[*row as usize] -= tree.of_bins(self.table.row(*row as usize)));
        }
        self.spare.extend(leaves.into_iter().map(|leaf| leaf.histogram));
        tree
    }

    /// The rows and columns that this tree sees.
    fn draw(&mut self, number: u64) {
        let mut chance = Chance::new(self.settings.seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(number));
        self.rows.clear();
        self.unseen.clear();
        let share = self.settings.row_share;
        for row in 0..u32::try_from(self.table.rows()).expect("fewer than 2^32 rows") {
            let rows = if share >= 1.0 || chance.unit() < share { &mut self.rows } else { &mut self.unseen };
            rows.push(row);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a few columns"
        )]
        let count = ((self.table.width() as f64 * self.settings.column_share).round() as usize).max(1);
        let mut drawn: Vec<usize> = (0..self.table.width()).collect();
        for i in 0..count.min(drawn.len()) {
            let other = i + usize::try_from(chance.next() % (drawn.len() - i) as u64).expect("a few columns");
            drawn.swap(i, other);
        }
        drawn.truncate(count);
        drawn.sort_unstable();
        self.columns = drawn;
    }

    fn histogram(&mut self, from: usize, to: usize) -> Histogram {
        let size = self.columns.len() * MOST;
        let mut sum = self.spare.pop().unwrap_or_default();
        sum.clear();
        sum.resize(size, 0);
        let (table, gradients, columns) = (self.table, &self.gradients, &self.columns);
        let is_small = self.settings.loss.has_small_gradients();
        let add = |sum: &mut Histogram, rows: &[u32]| {
            if is_small && rows.len() >= CHUNK / 8 {
                rows.chunks(CHUNK).for_each(|rows| add_small(sum, rows, table, gradients, columns));
            } else {
                add_any(sum, rows, table, gradients, columns);
            }
        };
        let rows = &self.rows[from..to];
        if rows.len() < 2 * CHUNK {
            add(&mut sum, rows);
            return sum;
        }
        let tasks = rayon::current_num_threads();
        let parts: Vec<Histogram> = rows
            .par_chunks(rows.len().div_ceil(tasks).max(CHUNK))
            .map(|rows| {
                let mut part = vec![0; size];
                add(&mut part, rows);
                part
            })
            .collect();
        for part in &parts {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sum
    }

    /// The split with the largest gain, if any has one.
    fn best_split(&self, histogram: &Histogram) -> Option<Candidate> {
        let least = self.settings.leaf_rows;
        let total: i64 = histogram.first_chunk::<MOST>()?.iter().sum();
        let (sum, count) = unpack(total);
        let before = sum * sum / count.max(1.0);
        let mut best: Option<Candidate> = None;
        for (column, histogram) in histogram.chunks_exact(MOST).enumerate() {
            let mut left = 0;
            for (bin, packed) in histogram[..MOST - 1].iter().enumerate() {
                left += packed;
                // Nothing in a bin: the same split as before it.
                if *packed == 0 {
                    continue;
                }
                let (left_sum, left_count) = unpack(left);
                let (right_sum, right_count) = (sum - left_sum, count - left_count);
                #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
                if left_count < least as f64 {
                    continue;
                } else if right_count < least as f64 {
                    break;
                }
                let gain = left_sum * left_sum / left_count + right_sum * right_sum / right_count - before;
                if gain > best.map_or(1e-9, |best| best.gain) {
                    best = Some(Candidate { gain, column, bin });
                }
            }
        }
        best
    }

    fn split(&mut self, leaf: Leaf, feature: usize, bin: usize, at: usize) -> (Leaf, Leaf) {
        let Leaf { from, to, mut histogram, .. } = leaf;
        let middle = from + self.partition(from, to, feature, bin);
        let left_is_smaller = middle - from <= to - middle;
        let (small_from, small_to) = if left_is_smaller { (from, middle) } else { (middle, to) };
        let small = self.histogram(small_from, small_to);
        histogram.iter_mut().zip(&small).for_each(|(all, small)| *all -= small);
        let (left, right) = if left_is_smaller { (small, histogram) } else { (histogram, small) };
        let leaf = |from, to, histogram, is_left| Leaf {
            from,
            to,
            best: self.best_split(&histogram),
            histogram,
            parent: Some((at, is_left)),
        };
        rayon::join(|| leaf(from, middle, left, true), || leaf(middle, to, right, false))
    }

    /// Brings the rows that go left to the front, each side in its order; returns how many they are.
    fn partition(&mut self, from: usize, to: usize, feature: usize, bin: usize) -> usize {
        let (table, rows) = (self.table, &mut self.rows[from..to]);
        self.right.resize(rows.len().max(self.right.len()), 0);
        let (mut kept, mut right) = (0, 0);
        // Without a branch: which side a row goes to can not be foretold.
        for i in 0..rows.len() {
            let row = rows[i];
            let goes_left = usize::from(table.row(row as usize)[feature % MOST_COLUMNS]) <= bin;
            rows[kept] = row;
            self.right[right] = row;
            kept += usize::from(goes_left);
            right += usize::from(!goes_left);
        }
        rows[kept..].copy_from_slice(&self.right[..right]);
        kept
    }

    fn finish(&self, mut splits: Vec<Split>, leaves: &[Leaf], residuals: &[f32]) -> Tree {
        for (number, leaf) in leaves.iter().enumerate() {
            link(&mut splits, leaf.parent, !i16::try_from(number).expect("at most 256 leaves"));
        }
        let (loss, rate) = (self.settings.loss, self.settings.learning_rate);
        let values = leaves.par_iter().map(|leaf| {
            let mut of_leaf: Vec<f32> = self.rows[leaf.from..leaf.to].iter().map(|r| residuals[*r as usize]).collect();
            rate * loss.leaf(&mut of_leaf)
        });
        Tree { splits, leaves: values.collect() }
    }
}

/// Adds rows to a histogram.
fn add_any(sum: &mut [i64], rows: &[u32], table: &Table, gradients: &[i32], columns: &[usize]) {
    for row in rows {
        let row = *row as usize;
        let packed = (i64::from(gradients[row]) << 32) + 1;
        let bins = table.row(row);
        for (of_column, column) in sum.chunks_exact_mut(MOST).zip(columns) {
            of_column[usize::from(bins[*column % MOST_COLUMNS]) % MOST] += packed;
        }
    }
}

/// The same for gradients of -1, 0 and 1, of at most [`CHUNK`] rows: halves of 16 bits, so that all sums stay in the
/// first-level cache.
fn add_small(sum: &mut [i64], rows: &[u32], table: &Table, gradients: &[i32], columns: &[usize]) {
    let mut small = [0_i32; 64 * MOST];
    for (columns, sum) in columns.chunks(64).zip(sum.chunks_mut(64 * MOST)) {
        let small = &mut small[..sum.len()];
        small.fill(0);
        for row in rows {
            let row = *row as usize;
            let packed = (gradients[row] << 16) + 1;
            let bins = table.row(row);
            for (of_column, column) in small.chunks_exact_mut(MOST).zip(columns) {
                of_column[usize::from(bins[*column % MOST_COLUMNS]) % MOST] += packed;
            }
        }
        for (sum, small) in sum.iter_mut().zip(small) {
            *sum += (i64::from(*small >> 16) << 32) + i64::from(*small & 0xffff);
        }
    }
}

fn link(splits: &mut [Split], parent: Option<(usize, bool)>, to: i16) {
    match parent {
        Some((at, true)) => splits[at].left = to,
        Some((at, false)) => splits[at].right = to,
        None => {}
    }
}

/// Sum of gradients and number of rows.
#[expect(clippy::cast_precision_loss, reason = "both are below 2^32")]
fn unpack(packed: i64) -> (f64, f64) {
    ((packed >> 32) as f64, (packed & 0xffff_ffff) as f64)
}
