//! Products of matrices, written so that a processor does many steps at once; always in the same order.

/// Rows and columns of the result that are worked out at once.
const TALL: usize = 4;
pub const WIDE: usize = 8;

/// A matrix as it lies in memory, row by row, or the same with rows and columns exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// From a row to the next, and from a column to the next.
    steps: (usize, usize),
}

impl<'a> Matrix<'a> {
    #[must_use]
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        Self { values, rows: values.len() / columns, columns, steps: (columns, 1) }
    }

    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, steps: (self.steps.1, self.steps.0), ..self }
    }
}

/// What is used again from product to product.
#[derive(Debug, Clone, Default)]
pub struct Product {
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Product {
    /// Adds `a` × `b` to `into`.
    ///
    /// # Panics
    /// If they do not fit together, or there are not a multiple of 4 rows and of [`WIDE`] columns.
    pub fn add(&mut self, a: Matrix<'_>, b: Matrix<'_>, into: &mut [f32]) {
        assert!(a.columns == b.rows && into.len() == a.rows * b.columns, "{a:?} × {b:?}");
        assert!(a.rows.is_multiple_of(TALL) && b.columns.is_multiple_of(WIDE), "{a:?} × {b:?}");
        let depth = a.columns;
        pack::<TALL>(a, &mut self.left);
        pack::<WIDE>(b.transposed(), &mut self.right);
        for (wide, right) in self.right.chunks_exact(WIDE * depth).enumerate() {
            for (tall, left) in self.left.chunks_exact(TALL * depth).enumerate() {
                let sums = tile(left, right);
                for (row, sums) in sums.iter().enumerate() {
                    let place = &mut into[(tall * TALL + row) * b.columns + wide * WIDE..][..WIDE];
                    place.iter_mut().zip(sums).for_each(|(place, sum)| *place += sum);
                }
            }
        }
    }
}

/// Bands of `N` rows each, a band column by column.
fn pack<const N: usize>(matrix: Matrix<'_>, into: &mut Vec<f32>) {
    into.clear();
    into.resize(matrix.rows * matrix.columns, 0.0);
    let (down, across) = matrix.steps;
    for (band, packed) in into.chunks_exact_mut(N * matrix.columns).enumerate() {
        for (column, packed) in packed.chunks_exact_mut(N).enumerate() {
            for (row, value) in packed.iter_mut().enumerate() {
                *value = matrix.values[(band * N + row) * down + column * across];
            }
        }
    }
}

fn tile(left: &[f32], right: &[f32]) -> [[f32; WIDE]; TALL] {
    let mut sums = [[0.0_f32; WIDE]; TALL];
    let ((left, _), (right, _)) = (left.as_chunks::<TALL>(), right.as_chunks::<WIDE>());
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            sums.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * right);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_rows_and_columns_either_way_round() {
        let a: Vec<f32> = (0..8 * 3_u8).map(f32::from).collect();
        let b: Vec<f32> = (0..3 * 16_u8).map(|i| f32::from(i % 5) - 2.0).collect();
        let exchanged = |values: &[f32], columns: usize| -> Vec<f32> {
            (0..values.len())
                .map(|i| values[i % (values.len() / columns) * columns + i / (values.len() / columns)])
                .collect()
        };
        let (turned_a, turned_b) = (exchanged(&a, 3), exchanged(&b, 16));
        let (mut product, mut plain, mut turned) = (Product::default(), vec![1.0; 8 * 16], vec![1.0; 8 * 16]);
        product.add(Matrix::new(&a, 3), Matrix::new(&b, 16), &mut plain);
        product.add(Matrix::new(&turned_a, 8).transposed(), Matrix::new(&turned_b, 3).transposed(), &mut turned);
        assert_eq!(plain, turned);
        for (i, value) in plain.iter().enumerate() {
            let sum: f32 = (0..3).map(|k| a[i / 16 * 3 + k] * b[k * 16 + i % 16]).sum();
            assert_eq!(*value, 1.0 + sum);
        }
    }
}
