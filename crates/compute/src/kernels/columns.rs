//! Columns of a row-major output, written by several threads at once.

use std::marker::PhantomData;
use std::ops::Range;

/// An output `[rows, width]` that threads fill column range by column range.
pub(crate) struct Output<'a> {
    data: *mut f32,
    rows: usize,
    width: usize,
    bias: Option<&'a [f32]>,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only written through `Columns`, whose ranges `Output::columns`' caller keeps disjoint.
#[allow(unsafe_code)]
unsafe impl Send for Output<'_> {}
// SAFETY: as for `Send`.
#[allow(unsafe_code)]
unsafe impl Sync for Output<'_> {}

/// A range of columns of an [`Output`], at most 16 wide in the kernels' use.
pub(crate) struct Columns<'a> {
    first: *mut f32,
    stride: usize,
    rows: usize,
    width: usize,
    bias: Option<&'a [f32]>,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> Output<'a> {
    /// Takes `data` as rows of `width` elements; `bias`, if any, is added to each row as it is written.
    ///
    /// # Panics
    /// If `bias` is not `width` long.
    pub(crate) fn new(data: &'a mut [f32], width: usize, bias: Option<&'a [f32]>) -> Self {
        assert!(bias.is_none_or(|b| b.len() == width), "a bias is as wide as its output");
        let rows = data.len().checked_div(width).unwrap_or(0);
        Self { data: data.as_mut_ptr(), rows, width, bias, lifetime: PhantomData }
    }

    /// Columns `range` of every row.
    ///
    /// # Panics
    /// If the range leaves the width.
    ///
    /// # Safety
    /// No two ranges that exist at the same time may overlap.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn columns(&self, range: Range<usize>) -> Columns<'a> {
        assert!(range.start <= range.end && range.end <= self.width, "columns outside the output");
        Columns {
            // SAFETY: `start <= width`, and with at least one row the allocation holds `width` elements from `data`.
            first: if self.rows == 0 { self.data } else { unsafe { self.data.add(range.start) } },
            stride: self.width,
            rows: self.rows,
            width: range.len(),
            bias: self.bias.map(|b| &b[range]),
            lifetime: PhantomData,
        }
    }
}

impl Columns<'_> {
    /// Columns in the range.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Writes columns `at..at + values.len()` of a row, cut at the range's end.
    ///
    /// # Panics
    /// If there is no such row or the columns begin outside the range.
    #[inline(always)]
    pub(crate) fn set<const N: usize>(&mut self, row: usize, at: usize, values: &[f32; N]) {
        assert!(row < self.rows && at <= self.width, "element outside the columns");
        let count = N.min(self.width - at);
        // SAFETY: row and columns lie in the output by the assertion, and this range is the only one that covers them.
        #[allow(unsafe_code)]
        let out = unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride + at), count) };
        match self.bias {
            Some(bias) => {
                let bias = &bias[at..at + count];
                for ((out, value), bias) in out.iter_mut().zip(values).zip(bias) {
                    *out = value + bias;
                }
            }
            // A copy of known length is one store; of unknown length, a call.
            None if count == N => out.copy_from_slice(values),
            None => out.copy_from_slice(&values[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn ranges_write_their_own_columns_and_add_the_bias() {
        let mut data = vec![0.0; 6];
        let bias = [10.0, 20.0, 30.0];
        let output = Output::new(&mut data, 3, Some(&bias));
        // SAFETY: the ranges are disjoint.
        let (mut left, mut right) = unsafe { (output.columns(0..1), output.columns(1..3)) };
        left.set(1, 0, &[1.0, 99.0]);
        right.set(0, 0, &[2.0, 3.0]);
        right.set(1, 1, &[4.0]);
        assert_eq!(data, [0.0, 22.0, 33.0, 11.0, 0.0, 34.0]);
    }

    #[test]
    #[should_panic(expected = "outside")]
    #[allow(unsafe_code)]
    fn a_range_beyond_the_width_is_refused() {
        let mut data = vec![0.0; 4];
        // SAFETY: the only range.
        let _ = unsafe { Output::new(&mut data, 2, None).columns(1..3) };
    }
}
