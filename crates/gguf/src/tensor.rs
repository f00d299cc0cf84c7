//! Entries of the tensor directory, checked against the length of the file.

use std::ops::Range;

use candle_core::quantized::gguf_file;

use crate::{GgmlDType, GgufError};

/// A tensor of the file: its type, shape and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Block layout of the data.
    pub dtype: GgmlDType,
    /// Product of all dimensions but the contiguous one; 1 for a vector.
    pub rows: usize,
    /// The contiguous dimension (ggml's `ne[0]`), a multiple of the type's block size.
    pub cols: usize,
    /// Dimensions, outermost first (ggml's order reversed): `[rows, cols]` for a matrix.
    pub dims: Vec<usize>,
    /// Where the data lies: bytes from the start of the file, inside the file, the start a multiple of 8.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Elements of the tensor; fits, since `rows * cols` was checked when the file was opened.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Bytes that the data takes in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Checks what the directory says about one tensor. `data_start` is where tensor data begins, `len` the length of
    /// the file, `alignment` what every offset must be a multiple of.
    pub(crate) fn check(
        name: String,
        entry: &gguf_file::TensorInfo,
        data_start: u64,
        alignment: u64,
        len: u64,
    ) -> Result<Self, GgufError> {
        let dims = entry.shape.dims().to_vec();
        let dtype = entry.ggml_dtype;
        let damaged = |name: String, reason: String| GgufError::Tensor { tensor: name, reason };

        let Some((&cols, outer)) = dims.split_last() else {
            return Err(damaged(name, "has no dimensions".into()));
        };
        if dims.contains(&0) {
            return Err(damaged(name, format!("has an empty dimension ({dims:?})")));
        }
        let shape = outer
            .iter()
            .try_fold(1usize, |rows, &dim| rows.checked_mul(dim))
            .and_then(|rows| Some((rows, rows.checked_mul(cols)?)));
        let Some((rows, elements)) = shape else {
            return Err(damaged(name, format!("has impossible dimensions ({dims:?})")));
        };
        if !cols.is_multiple_of(dtype.block_size()) {
            let block = dtype.block_size();
            return Err(damaged(
                name,
                format!("has rows of {cols} elements, not a multiple of {block} as {dtype:?} needs"),
            ));
        }
        if !entry.offset.is_multiple_of(alignment) {
            let offset = entry.offset;
            return Err(damaged(name, format!("lies at offset {offset}, not a multiple of {alignment}")));
        }
        let range = ((elements / dtype.block_size()) as u64).checked_mul(dtype.type_size() as u64).and_then(
            |bytes| {
                let start = data_start.checked_add(entry.offset)?;
                Some(start..start.checked_add(bytes)?)
            },
        );
        let Some(range) = range else {
            let offset = entry.offset;
            return Err(damaged(name, format!("lies at impossible offset {offset}")));
        };
        if range.end > len {
            return Err(GgufError::Truncated { what: format!("tensor '{name}'"), end: range.end, len });
        }
        Ok(Self { name, dtype, rows, cols, dims, range })
    }
}
