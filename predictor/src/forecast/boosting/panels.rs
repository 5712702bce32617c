//! Columns in groups of eight, so that a row's bins of a group are one read. A tree sees whole groups; which columns make
//! one changes every few trees.

use rayon::prelude::*;

use super::Chance;
use super::bins::{MOST, Table};

/// Columns of a panel.
pub const WIDTH: usize = 8;
/// Bins of a panel's histogram.
pub const SIZE: usize = WIDTH * MOST;
/// Trees for which panels stay as they are.
const LASTING: usize = 8;

/// A table's columns, dealt out to panels.
#[derive(Debug, Clone, Default)]
pub struct Panels {
    /// Features in the order of the panels; the last panel may have fewer.
    columns: Vec<usize>,
    panels: Vec<Vec<u64>>,
}

impl Panels {
    /// Deals the columns out anew if it is time for it.
    pub fn deal(&mut self, table: &Table, tree: usize, seed: u64) {
        if !tree.is_multiple_of(LASTING) && !self.panels.is_empty() {
            return;
        }
        let mut chance = Chance::new(seed ^ (tree as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.columns = (0..table.width()).collect();
        for i in (1..self.columns.len()).rev() {
            let other = usize::try_from(chance.next() % (i as u64 + 1)).expect("a few columns");
            self.columns.swap(i, other);
        }
        self.panels.resize_with(self.columns.len().div_ceil(WIDTH), Vec::new);
        let nothing = vec![0; if self.columns.len().is_multiple_of(WIDTH) { 0 } else { table.rows() }];
        self.panels.par_iter_mut().zip(self.columns.par_chunks(WIDTH)).for_each(|(panel, features)| {
            let bins = |k: usize| features.get(k).map_or(&nothing[..], |feature| table.column(*feature));
            pack(panel, std::array::from_fn(bins), table.rows());
        });
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.panels.len()
    }

    /// By row: the bins of each column, the first in the lowest byte.
    #[must_use]
    pub fn panel(&self, number: usize) -> &[u64] {
        &self.panels[number]
    }

    /// The feature of a column of a panel.
    #[must_use]
    pub fn feature(&self, panel: usize, column: usize) -> usize {
        self.columns[panel * WIDTH + column]
    }
}

fn pack(panel: &mut Vec<u64>, columns: [&[u8]; WIDTH], rows: usize) {
    panel.clear();
    let [a, b, c, d, e, f, g, h] = columns.map(|column| &column[..rows]);
    panel.extend(
        (0..rows).map(|row| u64::from_le_bytes([a[row], b[row], c[row], d[row], e[row], f[row], g[row], h[row]])),
    );
}
