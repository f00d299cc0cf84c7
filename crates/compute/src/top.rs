//! The largest values of a row, for backends whose results are in the processor's memory.

use std::cmp::Ordering;

use crate::{MAX_TOP, Readout};

/// Reads rows of `width` back as [`crate::Readback::Top`] says.
pub(crate) fn read_top(rows: &[f32], width: usize, count: usize, out: &mut Readout) {
    out.clear();
    let count = count.min(MAX_TOP).min(width);
    if count == 0 {
        return;
    }
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count);
    for row in rows.chunks_exact(width) {
        select(row, count, &mut best);
        out.values.extend(best.iter().map(|(value, _)| value));
        out.columns.extend(best.iter().map(|(_, column)| column));
    }
}

/// The `count` best of a row that has as many, best first. Once they are together, most values of a long row cost one
/// comparison with the last of them.
fn select(row: &[f32], count: usize, best: &mut Vec<(f32, u32)>) {
    best.clear();
    for (&value, column) in row.iter().zip(0..) {
        let value = if value.is_nan() { f32::NEG_INFINITY } else { value };
        if best.len() == count {
            // An equal value in a later column is no better.
            if best.last().is_some_and(|&(worst, _)| value <= worst) {
                continue;
            }
            best.pop();
        }
        let at = best.partition_point(|(other, _)| other.partial_cmp(&value) != Some(Ordering::Less));
        best.insert(at, (value, column));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(rows: &[f32], width: usize, count: usize) -> (Vec<f32>, Vec<u32>) {
        let mut out = Readout { values: vec![1.0], columns: vec![1] };
        read_top(rows, width, count, &mut out);
        (out.values, out.columns)
    }

    #[test]
    fn equal_values_keep_the_order_of_their_columns() {
        assert_eq!(top(&[1.0, 3.0, 1.0, 3.0, 0.0, 3.0], 6, 4), (vec![3.0, 3.0, 3.0, 1.0], vec![1, 3, 5, 0]));
        assert_eq!(top(&[-0.0, 0.0, -0.0], 3, 2), (vec![-0.0, 0.0], vec![0, 1]));
    }

    #[test]
    fn rows_are_apart_and_short_ones_are_given_whole() {
        assert_eq!(top(&[1.0, 2.0, 4.0, 3.0], 2, 9), (vec![2.0, 1.0, 4.0, 3.0], vec![1, 0, 0, 1]));
        assert_eq!(top(&[], 2, 9), (vec![], vec![]));
        assert_eq!(top(&[1.0], 1, 0), (vec![], vec![]));
        assert_eq!(top(&[0.5; 300], 300, 200).1, (0..MAX_TOP as u32).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_number_comes_last() {
        let (values, columns) = top(&[f32::NAN, -1e30, f32::NEG_INFINITY, f32::INFINITY], 4, 4);
        assert_eq!(values, [f32::INFINITY, -1e30, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert_eq!(columns, [3, 1, 0, 2]);
    }
}
