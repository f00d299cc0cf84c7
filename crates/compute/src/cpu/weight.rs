//! Weights of the CPU backend: views of the file's bytes as blocks of their quantisation.

use std::marker::PhantomData;

use bytes::Bytes;
use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K};
use half::{bf16, f16};
use reprise_gguf::GgmlDType;

use crate::ComputeError;
use crate::kernels::blocks::{BLOCK, Block32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::kernels::floats::Float;

/// A matrix `[rows, cols]` in its file's quantisation, or a vector `[1, cols]` as f32.
#[derive(Debug)]
pub struct CpuWeight {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) storage: Storage,
}

/// The elements by type.
#[derive(Debug)]
pub(super) enum Storage {
    F32(Blocks<f32>),
    F16(Blocks<f16>),
    BF16(Blocks<bf16>),
    Q4_0(Blocks<Q4_0>),
    Q4_1(Blocks<Q4_1>),
    Q5_0(Blocks<Q5_0>),
    Q5_1(Blocks<Q5_1>),
    Q8_0(Blocks<Q8_0>),
    Q2K(Blocks<BlockQ2K>),
    Q3K(Blocks<BlockQ3K>),
    Q4K(Blocks<BlockQ4K>),
    Q5K(Blocks<BlockQ5K>),
    Q6K(Blocks<BlockQ6K>),
}

/// Calls `$body` with `$blocks` bound to the typed blocks, by family: floats, 32-element blocks, k-quants.
macro_rules! by_family {
    ($storage:expr, $blocks:ident, float => $float:expr, block32 => $block32:expr, k_quant => $k:expr $(,)?) => {
        match $storage {
            Storage::F32($blocks) => $float,
            Storage::F16($blocks) => $float,
            Storage::BF16($blocks) => $float,
            Storage::Q4_0($blocks) => $block32,
            Storage::Q4_1($blocks) => $block32,
            Storage::Q5_0($blocks) => $block32,
            Storage::Q5_1($blocks) => $block32,
            Storage::Q8_0($blocks) => $block32,
            Storage::Q2K($blocks) => $k,
            Storage::Q3K($blocks) => $k,
            Storage::Q4K($blocks) => $k,
            Storage::Q5K($blocks) => $k,
            Storage::Q6K($blocks) => $k,
        }
    };
}
pub(super) use by_family;

impl CpuWeight {
    /// See [`crate::Backend::weight`].
    pub(super) fn new(dtype: GgmlDType, rows: usize, cols: usize, data: Bytes) -> Result<Self, ComputeError> {
        let storage = match dtype {
            GgmlDType::F32 => Storage::F32(Blocks::new(data)?),
            GgmlDType::F16 => Storage::F16(Blocks::new(data)?),
            GgmlDType::BF16 => Storage::BF16(Blocks::new(data)?),
            GgmlDType::Q4_0 => Storage::Q4_0(Blocks::new(data)?),
            GgmlDType::Q4_1 => Storage::Q4_1(Blocks::new(data)?),
            GgmlDType::Q5_0 => Storage::Q5_0(Blocks::new(data)?),
            GgmlDType::Q5_1 => Storage::Q5_1(Blocks::new(data)?),
            GgmlDType::Q8_0 => Storage::Q8_0(Blocks::new(data)?),
            GgmlDType::Q2K => Storage::Q2K(Blocks::new(data)?),
            GgmlDType::Q3K => Storage::Q3K(Blocks::new(data)?),
            GgmlDType::Q4K => Storage::Q4K(Blocks::new(data)?),
            GgmlDType::Q5K => Storage::Q5K(Blocks::new(data)?),
            GgmlDType::Q6K => Storage::Q6K(Blocks::new(data)?),
            other => return Err(ComputeError::UnsupportedType(other)),
        };
        let found = by_family!(
            &storage, b,
            float => b.bytes.len(),
            block32 => b.bytes.len(),
            k_quant => b.bytes.len(),
        );
        let block = dtype.block_size();
        let wanted = rows.checked_mul(cols / block).and_then(|n| n.checked_mul(dtype.type_size()));
        if !cols.is_multiple_of(block) || wanted != Some(found) {
            let wanted = wanted.unwrap_or(usize::MAX);
            return Err(ComputeError::Length { what: "a weight", wanted, found });
        }
        let weight = Self { rows, cols, storage };
        // Norms and biases are read whole at every use.
        if rows == 1 && !matches!(weight.storage, Storage::F32(_)) {
            let mut vector = vec![0f32; cols];
            weight.dequantize_row(0, &mut vector);
            return Ok(Self { rows, cols, storage: Storage::F32(Blocks::owned(&vector)) });
        }
        Ok(weight)
    }

    /// The elements of a vector.
    pub(super) fn vector(&self) -> Option<&[f32]> {
        match &self.storage {
            Storage::F32(blocks) if self.rows == 1 => Some(blocks.as_slice()),
            _ => None,
        }
    }

    /// Row `row` as floats.
    ///
    /// # Panics
    /// If there is no such row or `out` is not `cols` long.
    pub(super) fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "a row is as wide as the matrix");
        by_family!(
            &self.storage, blocks,
            float => widen(blocks.row(row, self.cols), out),
            block32 => {
                let (out, _) = out.as_chunks_mut::<BLOCK>();
                for (block, out) in blocks.row(row, self.cols / BLOCK).iter().zip(out) {
                    block.dequantize(out);
                }
            },
            k_quant => k_to_float(blocks, row, self.cols, out),
        );
    }
}

fn widen<T: Float>(from: &[T], out: &mut [f32]) {
    for (from, out) in from.iter().zip(out) {
        *out = from.widen();
    }
}

fn k_to_float<T: GgmlType + Plain>(blocks: &Blocks<T>, row: usize, cols: usize, out: &mut [f32]) {
    T::to_float(blocks.row(row, cols / T::BLCK_SIZE), out);
}

/// Types that may be read from any bytes: no padding, every bit pattern valid.
///
/// # Safety
/// The type must be `repr(C)` or primitive, without padding, and valid for every bit pattern.
#[allow(unsafe_code)]
pub(super) unsafe trait Plain: Sized {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: integers, floats and arrays of them, `repr(C)`, their size asserted by their crate to hold no padding.
        #[allow(unsafe_code)]
        unsafe impl Plain for $type {}
    )*};
}
plain!(f32, f16, bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K);

/// Bytes seen as blocks of `T`.
pub(super) struct Blocks<T> {
    /// Aligned for `T` and a multiple of its size.
    bytes: Bytes,
    block: PhantomData<T>,
}

impl<T: Plain> Blocks<T> {
    /// Takes the bytes as they are, or a copy of them when they are not aligned for `T`.
    fn new(bytes: Bytes) -> Result<Self, ComputeError> {
        let size = size_of::<T>();
        if !bytes.len().is_multiple_of(size) {
            let wanted = bytes.len().next_multiple_of(size);
            return Err(ComputeError::Length { what: "a weight", wanted, found: bytes.len() });
        }
        if bytes.as_ptr().align_offset(align_of::<T>()) == 0 {
            return Ok(Self { bytes, block: PhantomData });
        }
        Ok(Self { bytes: aligned_copy(&bytes), block: PhantomData })
    }

    /// All blocks.
    pub(super) fn as_slice(&self) -> &[T] {
        let len = self.bytes.len() / size_of::<T>();
        // SAFETY: `new` made the bytes aligned and a multiple of the size, and `Bytes` never moves or changes them; `T: Plain`
        // reads any bits.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.bytes.as_ptr().cast(), len)
        }
    }

    /// All blocks as they lie in the file.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Row `row` of a matrix with `blocks` blocks a row.
    pub(super) fn row(&self, row: usize, blocks: usize) -> &[T] {
        &self.as_slice()[row * blocks..(row + 1) * blocks]
    }
}

impl Blocks<f32> {
    fn owned(values: &[f32]) -> Self {
        Self { bytes: aligned_copy(bytemuck::cast_slice(values)), block: PhantomData }
    }
}

impl<T> std::fmt::Debug for Blocks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}", self.bytes.len(), std::any::type_name::<T>())
    }
}

/// A copy that is aligned for every block type.
fn aligned_copy(bytes: &[u8]) -> Bytes {
    struct Words(Vec<u64>, usize);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            &bytemuck::cast_slice(&self.0)[..self.1]
        }
    }
    let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(Words(words, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_bytes_are_copied_and_aligned_ones_are_not() {
        let words: Vec<u8> = [1.5f32, -2.0, 3.25].iter().flat_map(|x| x.to_le_bytes()).collect();
        let padded = aligned_copy(&[&[0u8], words.as_slice()].concat());
        let misaligned = padded.slice(1..);
        let blocks = Blocks::<f32>::new(misaligned.clone()).unwrap();
        assert_ne!(blocks.bytes.as_ptr(), misaligned.as_ptr());
        assert_eq!(blocks.as_slice(), [1.5, -2.0, 3.25]);

        let aligned = aligned_copy(&words);
        let blocks = Blocks::<f32>::new(aligned.clone()).unwrap();
        assert_eq!(blocks.bytes.as_ptr(), aligned.as_ptr());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let bytes = |n: usize| Bytes::from(vec![0u8; n]);
        let length = |r: Result<CpuWeight, ComputeError>| matches!(r, Err(ComputeError::Length { .. }));
        assert!(length(CpuWeight::new(GgmlDType::F32, 2, 3, bytes(20))));
        assert!(length(CpuWeight::new(GgmlDType::F32, 2, 3, bytes(23))));
        assert!(length(CpuWeight::new(GgmlDType::Q4_1, 2, 48, bytes(60))));
        assert!(length(CpuWeight::new(GgmlDType::Q6K, 1, 32, bytes(210))));
        assert!(length(CpuWeight::new(GgmlDType::F16, usize::MAX, 4, bytes(8))));
        assert!(CpuWeight::new(GgmlDType::Q4_1, 2, 64, bytes(80)).is_ok());
        assert!(matches!(
            CpuWeight::new(GgmlDType::Q8K, 1, 256, bytes(292)),
            Err(ComputeError::UnsupportedType(GgmlDType::Q8K))
        ));
    }

    #[test]
    fn vectors_are_kept_as_floats() {
        let data: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let weight = CpuWeight::new(GgmlDType::F16, 1, 2, Bytes::from(data)).unwrap();
        assert_eq!(weight.vector(), Some([0.5, 2.0].as_slice()));
    }
}
