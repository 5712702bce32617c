//! A tree asked about many rows at once. For each row the leaves that it may still reach are bits, in the order of the
//! leaves from left to right; each split that a row goes right at takes away those on its left, and the lowest bit that is
//! left is the row's leaf (QuickScorer: Lucchese et al. 2015). No step depends on another row's, so that processors do
//! many at once.

use super::tree::Tree;

/// Rows that are asked about at once.
pub const BLOCK: usize = 256;
/// Rows that a processor does at once.
const LANES: usize = 16;
/// Bytes of a row's bits, kept apart: most splits take away bits of one.
const PLANES: usize = 4;
const MOST_LEAVES: usize = 8 * PLANES;

/// A tree's splits, each with what it takes away.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    cuts: Vec<Cut>,
    /// From left to right.
    leaves: [f32; MOST_LEAVES],
}

/// A split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    pub threshold: f32,
    pub feature: u16,
    pub bin: u8,
    /// The bits that a row keeps that goes right.
    keep: [u8; PLANES],
}

impl Reach {
    /// `None` if the tree has more leaves than there are bits.
    #[must_use]
    pub fn of(tree: &Tree) -> Option<Self> {
        let mut reach = Self { cuts: Vec::with_capacity(tree.splits.len()), leaves: [0.0; MOST_LEAVES] };
        let mut next = 0;
        reach.add(tree, if tree.splits.is_empty() { !0 } else { 0 }, &mut next)?;
        Some(reach)
    }

    /// Adds what is below a split or leaf; `next` is the number of leaves so far.
    fn add(&mut self, tree: &Tree, at: i16, next: &mut usize) -> Option<()> {
        if at < 0 {
            *self.leaves.get_mut(*next)? = tree.leaves[usize::from((!at).unsigned_abs())];
            *next += 1;
            return Some(());
        }
        let split = tree.splits[usize::from(at.unsigned_abs())];
        let place = self.cuts.len();
        self.cuts.push(Cut { threshold: split.threshold, feature: split.feature, bin: split.bin, keep: [0; PLANES] });
        let from = *next;
        self.add(tree, split.left, next)?;
        let left = (u64::MAX >> (64 - *next)) & (u64::MAX << from);
        for (plane, keep) in self.cuts[place].keep.iter_mut().enumerate() {
            *keep = !left.to_le_bytes()[plane];
        }
        self.add(tree, split.right, next)
    }

    /// Puts at most [`BLOCK`] rows, whose values of a feature `column` gives, in their leaves, and tells `each` of the
    /// leaf's value. Where a value is above `limit` of a split, the row goes right.
    #[inline]
    pub fn each<'c, T: PartialOrd + Copy + 'c>(
        &self,
        column: impl Fn(usize) -> &'c [T],
        limit: impl Fn(&Cut) -> T,
        sums: &mut [f32],
        each: impl Fn(&mut f32, f32),
    ) {
        let rows = sums.len().min(BLOCK);
        // Where the column goes on, so do we: the last few rows one by one take longer.
        let whole = rows.next_multiple_of(LANES);
        let mut planes = [[0xff_u8; BLOCK]; PLANES];
        for cut in &self.cuts {
            let (values, limit) = (column(usize::from(cut.feature)), limit(cut));
            let values = &values[..whole.min(values.len())];
            for (plane, keep) in planes.iter_mut().zip(cut.keep).filter(|(_, keep)| *keep != 0xff) {
                let kept = |value: T| if value <= limit { 0xff } else { keep };
                let (lanes, rest) = values.as_chunks::<LANES>();
                let (bits, bits_rest) = plane.as_chunks_mut::<LANES>();
                for (bits, values) in bits.iter_mut().zip(lanes) {
                    let kept: [u8; LANES] = values.map(kept);
                    bits.iter_mut().zip(kept).for_each(|(bits, kept)| *bits &= kept);
                }
                let bits = bits[lanes.len()..].iter_mut().flatten().chain(bits_rest);
                bits.zip(rest).for_each(|(bits, value)| *bits &= kept(*value));
            }
        }
        let [a, b, c, d] = &planes;
        for (i, sum) in sums[..rows].iter_mut().enumerate() {
            let reached = u32::from_le_bytes([a[i], b[i], c[i], d[i]]).trailing_zeros();
            each(sum, self.leaves[reached as usize % MOST_LEAVES]);
        }
    }
}

/// Rows of features, column by column in blocks of [`BLOCK`] rows.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    width: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Columns {
    /// Takes rows of `width` features, one after the other.
    pub fn fill(&mut self, rows: &[f32], width: usize) {
        (self.width, self.rows) = (width, rows.len() / width.max(1));
        self.values.resize(self.rows.div_ceil(BLOCK) * BLOCK * width, 0.0);
        let blocks = self.values.chunks_exact_mut((BLOCK * width).max(1));
        for (block, rows) in blocks.zip(rows.chunks((BLOCK * width).max(1))) {
            for (i, row) in rows.chunks_exact(width).enumerate() {
                row.iter().enumerate().for_each(|(feature, value)| block[feature * BLOCK + i] = *value);
            }
        }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A feature of the rows of a block.
    #[inline]
    #[must_use]
    pub fn column(&self, block: usize, feature: usize) -> &[f32] {
        &self.values[(block * self.width + feature) * BLOCK..][..BLOCK]
    }
}
