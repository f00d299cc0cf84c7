//! Dequantised weights, by candle's tensors rather than by the code under test.

use std::borrow::Cow;

use candle_core::Device;
use candle_core::quantized::k_quants::{BlockQ8K, QK_K};
use candle_core::quantized::{GgmlType, QStorage, QTensor};
use half::f16;
use reprise_gguf::GgmlDType;

use super::Rounding;
use crate::ComputeError;

/// A matrix `[rows, cols]` in f64.
#[derive(Debug)]
pub struct ReferenceWeight {
    dtype: GgmlDType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    elements: Vec<f64>,
    /// What `Q4_1` and `Q5_1` add to every element of a block of 32, `[rows, cols / 32]`; else empty.
    mins: Vec<f64>,
}

impl ReferenceWeight {
    pub(super) fn new(dtype: GgmlDType, rows: usize, cols: usize, data: &[u8]) -> Result<Self, ComputeError> {
        if matches!(dtype, GgmlDType::Q8_1 | GgmlDType::Q8K) {
            return Err(ComputeError::UnsupportedType(dtype));
        }
        let wanted = rows * (cols / dtype.block_size()) * dtype.type_size();
        if !cols.is_multiple_of(dtype.block_size()) || data.len() != wanted {
            return Err(ComputeError::Length { what: "a weight", wanted, found: data.len() });
        }
        let mut aligned = vec![0u64; data.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut aligned)[..data.len()].copy_from_slice(data);
        let aligned = &bytemuck::cast_slice(&aligned)[..data.len()];
        let elements = QStorage::from_data(Cow::Borrowed(aligned), &Device::Cpu, dtype)
            .and_then(|storage| QTensor::new(storage, (rows, cols)))
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|e| ComputeError::Device(e.to_string()))?;
        let mins = match dtype {
            GgmlDType::Q4_1 | GgmlDType::Q5_1 => data
                .chunks_exact(dtype.type_size())
                .map(|block| f16::from_le_bytes([block[2], block[3]]).to_f64())
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self { dtype, rows, cols, elements: elements.into_iter().map(f64::from).collect(), mins })
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.elements[row * self.cols..(row + 1) * self.cols]
    }

    /// Products of one activation row with every weight row.
    pub(super) fn multiply(&self, x: &[f64], rounding: Rounding) -> Vec<f64> {
        // A vector is used as floats, so nothing is gained by rounding what it meets.
        let rounded = match rounding {
            Rounding::EightBit if self.rows > 1 => self.round(x),
            _ => Rounded { elements: x.to_vec(), sum_errors: Vec::new() },
        };
        (0..self.rows)
            .map(|row| {
                let products = self.row(row).iter().zip(&rounded.elements).map(|(w, x)| w * x);
                let mins = self.mins.iter().skip(row * self.cols / 32);
                let corrections = mins.zip(&rounded.sum_errors).map(|(min, error)| min * error);
                products.sum::<f64>() + corrections.sum::<f64>()
            })
            .collect()
    }

    /// The activations as the integer dot product for this type of weight sees them.
    fn round(&self, x: &[f64]) -> Rounded {
        let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let mut elements = vec![0f32; x.len()];
        let mut sum_errors = Vec::new();
        match self.dtype {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => elements.copy_from_slice(&x),
            GgmlDType::Q2K | GgmlDType::Q3K | GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K => {
                let mut blocks = vec![BlockQ8K::zeros(); x.len() / QK_K];
                BlockQ8K::from_float(&x, &mut blocks);
                BlockQ8K::to_float(&blocks, &mut elements);
            }
            _ => {
                for (x, out) in x.chunks_exact(32).zip(elements.chunks_exact_mut(32)) {
                    let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
                    let inverse = if max == 0.0 { 0.0 } else { 127.0 / max };
                    let quants: Vec<f32> = x.iter().map(|x| (x * inverse).round_ties_even()).collect();
                    let scale = f16::from_f32(max / 127.0).to_f32();
                    for (out, quant) in out.iter_mut().zip(&quants) {
                        *out = quant * scale;
                    }
                    let sum: f32 = quants.iter().sum();
                    let kept = f16::from_f32(max / 127.0 * sum).to_f64();
                    sum_errors.push(kept - f64::from(sum) * f64::from(scale));
                }
            }
        }
        Rounded { elements: elements.into_iter().map(f64::from).collect(), sum_errors }
    }
}

/// Rounded activations, and by how much the stored sum of each block of 32 differs from the sum of its elements.
struct Rounded {
    elements: Vec<f64>,
    sum_errors: Vec<f64>,
}
