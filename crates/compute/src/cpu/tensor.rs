//! Activations of the CPU backend.

use crate::ComputeError;

/// Activations `[capacity, width] f32`, of which the first `rows` are in use.
#[derive(Debug)]
pub struct CpuTensor {
    data: Vec<f32>,
    width: usize,
    rows: usize,
}

impl CpuTensor {
    pub(super) fn new(capacity: usize, width: usize) -> Result<Self, ComputeError> {
        let elements = capacity
            .checked_mul(width)
            .ok_or_else(|| ComputeError::Device(format!("{capacity} x {width} activations overflow")))?;
        let mut data = Vec::new();
        data.try_reserve_exact(elements)
            .map_err(|e| ComputeError::Device(format!("{capacity} x {width} activations: {e}")))?;
        data.resize(elements, 0.0);
        Ok(Self { data, width, rows: 0 })
    }

    /// Elements of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Rows in use.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that fit.
    pub(super) fn capacity(&self) -> usize {
        self.data.len().checked_div(self.width).unwrap_or(usize::MAX)
    }

    /// Sets the rows in use and gives them out for writing.
    pub(super) fn resize(&mut self, op: &'static str, rows: usize) -> Result<&mut [f32], ComputeError> {
        if rows > self.capacity() {
            let detail = format!("{rows} rows do not fit a tensor of {}", self.capacity());
            return Err(ComputeError::Operands { op, detail });
        }
        self.rows = rows;
        Ok(self.as_mut_slice())
    }

    /// The rows in use.
    pub(super) fn as_slice(&self) -> &[f32] {
        &self.data[..self.rows * self.width]
    }

    /// The rows in use.
    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.width]
    }
}
