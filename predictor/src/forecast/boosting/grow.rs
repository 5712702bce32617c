//! Growing one tree, leaf by leaf: the split that gains most comes next.

use rayon::prelude::*;

use super::bins::{Bins, MOST, Table};
use super::panels::{self, Panels};
use super::reach::{BLOCK, Reach};
use super::tree::{Split, Tree};
use super::{Chance, Loss, Settings};

/// Sums of gradients (upper half) and numbers of rows (lower half) by column and bin. Both at once are one addition, and
/// a sibling is one subtraction.
type Histogram = Vec<i64>;

/// Rows that are summed up in halves of 16 bits.
const CHUNK: usize = 1 << 13;
/// Fewer rows than this are not worth another thread.
const ALONE: usize = 1 << 14;

/// Rows whose bins are read before they are used: many reads at once wait no longer than one.
const AHEAD: usize = 64;

/// A row that a tree sees, and the sign of its gradient: -1, 0 or 1.
#[derive(Debug, Clone, Copy, Default)]
struct Seen(u32);

impl Seen {
    #[inline]
    fn new(row: u32, residual: f32) -> Self {
        Self(row << 2 | (1 + u32::from(residual > 0.0) - u32::from(residual < 0.0)))
    }

    #[inline]
    fn row(self) -> usize {
        (self.0 >> 2) as usize
    }

    #[inline]
    fn sign(self) -> i32 {
        (self.0 & 3).cast_signed() - 1
    }
}

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
    /// Index among the columns of the tree's panels.
    column: usize,
    /// The last bin that goes left.
    bin: usize,
}

/// What is used again from tree to tree.
pub struct Grower<'t> {
    table: &'t Table,
    settings: &'t Settings,
    panels: Panels,
    /// The panels that the tree sees.
    drawn: Vec<usize>,
    rows: Vec<Seen>,
    /// Rows that go right while a leaf is split.
    right: Vec<Seen>,
    /// By row, if they are more than signs.
    gradients: Vec<i32>,
    spare: Vec<Histogram>,
}

impl<'t> Grower<'t> {
    /// # Panics
    /// If the table has 2³⁰ rows or more.
    pub fn new(table: &'t Table, settings: &'t Settings) -> Self {
        assert!(table.rows() < 1 << 30, "{} rows are too many", table.rows());
        let (panels, drawn, rows, right, gradients, spare) = Default::default();
        Self { table, settings, panels, drawn, rows, right, gradients, spare }
    }

    /// The tree that lowers the loss of these residuals most, and lowers them by it; `None` if there is nothing to split.
    pub fn grow(&mut self, residuals: &mut [f32], bins: &Bins, number: usize) -> Option<Tree> {
        if self.settings.loss != Loss::Absolute {
            self.settings.loss.gradients(residuals, &mut self.gradients);
        }
        self.draw(residuals, number);
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
            let feature = self.feature(best.column);
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
            lower(residuals, tree, self.table);
        }
        self.spare.extend(leaves.into_iter().map(|leaf| leaf.histogram));
        tree
    }

    /// The rows and columns that this tree sees.
    fn draw(&mut self, residuals: &[f32], number: usize) {
        let seed = self.settings.seed.wrapping_mul(0x0100_0000_01b3);
        self.panels.deal(self.table, number, seed);
        let mut chance = Chance::new(seed.wrapping_add(number as u64));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 256")]
        let share = (self.settings.row_share.clamp(0.0, 1.0) * 256.0).round() as u64;
        self.rows.clear();
        self.rows.resize(residuals.len() + 1, Seen::default());
        let mut kept = 0;
        // A byte of chance for each row; without a branch, since it can not be foretold.
        for (rows, residuals) in (0_u32..).step_by(8).zip(residuals.chunks(8)) {
            let bytes = chance.next();
            for (k, residual) in (0..).zip(residuals) {
                self.rows[kept] = Seen::new(rows + k, *residual);
                kept += usize::from((bytes >> (8 * k)) & 0xff < share);
            }
        }
        self.rows.truncate(kept);
        let all = self.panels.count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a few panels"
        )]
        let count = ((all as f64 * self.settings.column_share).round() as usize).clamp(1.min(all), all);
        let mut drawn: Vec<usize> = (0..all).collect();
        for i in 0..count {
            let other = i + usize::try_from(chance.next() % (all - i) as u64).expect("a few panels");
            drawn.swap(i, other);
        }
        drawn.truncate(count);
        drawn.sort_unstable();
        self.drawn = drawn;
    }

    fn feature(&self, column: usize) -> usize {
        self.panels.feature(self.drawn[column / panels::WIDTH], column % panels::WIDTH)
    }

    fn histogram(&mut self, from: usize, to: usize) -> Histogram {
        let mut sum = self.spare.pop().unwrap_or_default();
        sum.clear();
        sum.resize(self.drawn.len() * panels::SIZE, 0);
        let (rows, panels, gradients) = (&self.rows[from..to], &self.panels, &self.gradients);
        let are_signs = self.settings.loss == Loss::Absolute;
        let add = |(sum, panel): (&mut [i64], &usize)| {
            if are_signs {
                rows.chunks(CHUNK).for_each(|rows| add_signs(sum, rows, panels.panel(*panel)));
            } else {
                add_any(sum, rows, panels.panel(*panel), gradients);
            }
        };
        if rows.len() < ALONE {
            sum.chunks_exact_mut(panels::SIZE).zip(&self.drawn).for_each(add);
        } else {
            sum.par_chunks_exact_mut(panels::SIZE).zip(&self.drawn).for_each(add);
        }
        sum
    }

    /// The split with the largest gain, if any has one.
    fn best_split(&self, histogram: &Histogram) -> Option<Candidate> {
        let least = self.settings.leaf_rows;
        let total: i64 = histogram.first_chunk::<MOST>()?.iter().sum();
        let (sum, count) = unpack(total);
        #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
        let least = least as f64;
        let before = sum * sum / count.max(1.0);
        // What both sides must have together to be better, before and after.
        let (mut best, mut to_beat): (Option<Candidate>, f64) = (None, before + 1e-9);
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
                if left_count < least {
                    continue;
                } else if right_count < least {
                    break;
                }
                // Compared before it is divided: most are no better.
                let both = left_sum * left_sum * right_count + right_sum * right_sum * left_count;
                if both > to_beat * (left_count * right_count) {
                    to_beat = both / (left_count * right_count);
                    best = Some(Candidate { gain: to_beat - before, column, bin });
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
        (leaf(from, middle, left, true), leaf(middle, to, right, false))
    }

    /// Brings the rows that go left to the front, each side in its order; returns how many they are.
    fn partition(&mut self, from: usize, to: usize, feature: usize, bin: usize) -> usize {
        let (column, rows) = (self.table.column(feature), &mut self.rows[from..to]);
        self.right.resize(rows.len().max(self.right.len()), Seen::default());
        let (mut kept, mut right) = (0, 0);
        // Without a branch: which side a row goes to can not be foretold.
        for i in 0..rows.len() {
            let row = rows[i];
            let goes_left = usize::from(column[row.row()]) <= bin;
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
            let of_leaf: Vec<f32> = self.rows[leaf.from..leaf.to].iter().map(|row| residuals[row.row()]).collect();
            rate * loss.leaf(&of_leaf)
        });
        Tree { splits, leaves: values.collect() }
    }
}

/// Adds rows to the histogram of a panel.
fn add_any(sum: &mut [i64], rows: &[Seen], panel: &[u64], gradients: &[i32]) {
    for row in rows {
        let packed = (i64::from(gradients[row.row()]) << 32) + 1;
        let bins = panel[row.row()].to_le_bytes();
        for (of_column, bin) in sum.chunks_exact_mut(MOST).zip(bins) {
            of_column[usize::from(bin) % MOST] += packed;
        }
    }
}

/// The same for gradients that are signs, of at most [`CHUNK`] rows: halves of 16 bits, so that the sums stay in the
/// first-level cache.
fn add_signs(sum: &mut [i64], rows: &[Seen], panel: &[u64]) {
    let mut small = [[0_i32; MOST]; panels::WIDTH];
    let mut ahead = [0_u64; AHEAD];
    for rows in rows.chunks(AHEAD) {
        ahead.iter_mut().zip(rows).for_each(|(bins, row)| *bins = panel[row.row()]);
        for (row, bins) in rows.iter().zip(&ahead) {
            let packed = (row.sign() << 16) + 1;
            for (of_column, bin) in small.iter_mut().zip(bins.to_le_bytes()) {
                let place = &mut of_column[usize::from(bin) % MOST];
                *place = place.wrapping_add(packed);
            }
        }
    }
    for (sum, small) in sum.iter_mut().zip(small.as_flattened()) {
        *sum += (i64::from(*small >> 16) << 32) + i64::from(*small & 0xffff);
    }
}

/// Takes from each residual what the tree says of its row.
fn lower(residuals: &mut [f32], tree: &Tree, table: &Table) {
    let reach = Reach::of(tree);
    residuals.par_chunks_mut(BLOCK).with_min_len(64).enumerate().for_each(|(block, residuals)| {
        let from = block * BLOCK;
        match &reach {
            Some(reach) => {
                let column = |feature: usize| &table.column(feature)[from..];
                reach.each(column, |cut| cut.bin, residuals, |residual, value| *residual -= value);
            }
            None => {
                for (row, residual) in (from..).zip(residuals) {
                    *residual -= tree.of_bins(|feature| table.column(feature)[row]);
                }
            }
        }
    });
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
