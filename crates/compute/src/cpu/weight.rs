//! Weights of the CPU backend: blocks of their quantisation, in the file's bytes or repacked.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};
use reprise_gguf::GgmlDType;

use super::Threads;
use super::pool::Pool;
use crate::ComputeError;
use crate::kernels::arena::Arena;
use crate::kernels::blocks::{BLOCK, Block32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::kernels::floats::{self, Float, GROUP};
use crate::kernels::panel::{Order, PANEL, Panel};
use crate::kernels::superblocks;
use crate::kernels::superblocks::formats::{Q2K, Q3K, Q4K, Q5K, Q6K, SUPERBLOCK, SuperBlock};
use crate::kernels::weave::{unweave, weave};

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
    Q2K(Blocks<Q2K>),
    Q3K(Blocks<Q3K>),
    Q4K(Blocks<Q4K>),
    Q5K(Blocks<Q5K>),
    Q6K(Blocks<Q6K>),
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

    /// The same in memory of its own, as the kernels read it best.
    pub(super) fn repacked(self, arena: &Arena, threads: &Threads) -> Self {
        let Self { rows, cols, storage } = self;
        let pool = &threads.pool;
        let k = cols / SUPERBLOCK;
        let block32 = cols / BLOCK;
        let storage = match storage {
            _ if rows <= 1 => storage,
            Storage::F32(blocks) => Storage::F32(blocks.copied(arena)),
            Storage::F16(blocks) => Storage::F16(blocks.repacked_floats(rows, cols, arena, threads)),
            Storage::BF16(blocks) => Storage::BF16(blocks.repacked_floats(rows, cols, arena, threads)),
            Storage::Q4_0(blocks) => Storage::Q4_0(blocks.repacked(rows, block32, arena, pool)),
            Storage::Q4_1(blocks) => Storage::Q4_1(blocks.repacked(rows, block32, arena, pool)),
            Storage::Q5_0(blocks) => Storage::Q5_0(blocks.repacked(rows, block32, arena, pool)),
            Storage::Q5_1(blocks) => Storage::Q5_1(blocks.repacked(rows, block32, arena, pool)),
            Storage::Q8_0(blocks) => Storage::Q8_0(blocks.repacked(rows, block32, arena, pool)),
            Storage::Q2K(blocks) => Storage::Q2K(blocks.repacked_k(rows, k, arena, threads)),
            Storage::Q3K(blocks) => Storage::Q3K(blocks.repacked_k(rows, k, arena, threads)),
            Storage::Q4K(blocks) => Storage::Q4K(blocks.repacked_k(rows, k, arena, threads)),
            Storage::Q5K(blocks) => Storage::Q5K(blocks.repacked_k(rows, k, arena, threads)),
            Storage::Q6K(blocks) => Storage::Q6K(blocks.repacked_k(rows, k, arena, threads)),
        };
        Self { rows, cols, storage }
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
            float => widen(blocks, row, self.cols, out),
            block32 => {
                let (out, _) = out.as_chunks_mut::<BLOCK>();
                for (index, out) in out.iter_mut().enumerate() {
                    blocks.block(row, index, self.cols / BLOCK).dequantize(out);
                }
            },
            k_quant => {
                let (out, _) = out.as_chunks_mut::<SUPERBLOCK>();
                for (index, out) in out.iter_mut().enumerate() {
                    blocks.block(row, index, self.cols / SUPERBLOCK).dequantize(out);
                }
            },
        );
    }
}

fn widen<T: Float + Plain>(from: &Blocks<T>, row: usize, cols: usize, out: &mut [f32]) {
    for (at, out) in out.iter_mut().enumerate() {
        *out = from.element(row, at, cols).widen();
    }
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
// SAFETY: as its elements.
#[allow(unsafe_code)]
unsafe impl<T: Plain> Plain for [T; GROUP] {}
plain!(f32, f16, bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K);

/// Bytes seen as blocks of `T`.
pub(super) struct Blocks<T> {
    /// Aligned for `T` and a multiple of its size.
    bytes: Bytes,
    /// How the blocks of 16 rows lie.
    order: Order,
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
            return Ok(Self::in_rows(bytes));
        }
        Ok(Self::in_rows(aligned_copy(&bytes)))
    }

    /// `bytes` must be aligned and of whole blocks.
    fn in_rows(bytes: Bytes) -> Self {
        Self { bytes, order: Order::Rows, block: PhantomData }
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

    /// The panel of these rows of a matrix with `blocks` blocks a row; it begins at a multiple of 16.
    pub(super) fn panel(&self, rows: Range<usize>, blocks: usize) -> Panel<'_, T> {
        let held = if self.order == Order::Rows { rows.len() } else { PANEL };
        let (blocks, next) = self.as_slice()[rows.start * blocks..].split_at(held * blocks);
        Panel { blocks, next, order: self.order }
    }
}

impl<T: Plain + Pod> Blocks<T> {
    /// Block `index` of a row of a matrix with `blocks` blocks a row.
    fn block(&self, row: usize, index: usize, blocks: usize) -> T {
        let (first, row) = (row / PANEL * PANEL, row % PANEL);
        match self.order {
            Order::Rows => self.as_slice()[(first + row) * blocks + index],
            Order::Interleaved => *self.panel(first..first + PANEL, blocks).block(row, index, blocks),
            Order::Woven => unweave(&self.as_slice()[first * blocks + index * PANEL..][..PANEL], row),
        }
    }
}

impl<T: Plain + Float> Blocks<T> {
    /// Element `at` of a row of `cols`.
    fn element(&self, row: usize, at: usize, cols: usize) -> T {
        if self.order == Order::Rows {
            return self.as_slice()[row * cols + at];
        }
        let first = row / PANEL * PANEL;
        self.as_slice()[first * cols + (at / GROUP * PANEL + row - first) * GROUP + at % GROUP]
    }

    /// A copy in the arena, in the order that the kernels want.
    fn repacked_floats(self, rows: usize, cols: usize, arena: &Arena, threads: &Threads) -> Self {
        if floats::order::<T>(threads.isa, cols) == Order::Rows {
            return self.copied(arena);
        }
        let groups = Blocks::<[T; GROUP]> { bytes: self.bytes, order: self.order, block: PhantomData };
        let Blocks { bytes, order, .. } = groups.repacked(rows, cols / GROUP, arena, &threads.pool);
        Self { bytes, order, block: PhantomData }
    }
}

impl<T: Plain> Blocks<T> {
    /// A copy in the arena, in the same order.
    fn copied(self, arena: &Arena) -> Self {
        match arena.put(self.bytes.len(), |to| to.copy_from_slice(&self.bytes)) {
            Some(bytes) => Self { bytes, ..self },
            None => self,
        }
    }
}

impl<T: Plain + Pod + Send + Sync> Blocks<T> {
    /// A copy in the arena, in the order that the kernels want.
    fn repacked_k(self, rows: usize, blocks: usize, arena: &Arena, threads: &Threads) -> Self
    where
        T: SuperBlock,
    {
        self.reordered(superblocks::order::<T>(threads.isa), rows, blocks, arena, &threads.pool)
    }

    /// A copy in the arena with the rows of each panel interleaved.
    fn repacked(self, rows: usize, blocks: usize, arena: &Arena, pool: &Pool) -> Self {
        self.reordered(Order::Interleaved, rows, blocks, arena, pool)
    }

    /// A copy in the arena, its panels in an order of 16 rows; rows of zeros fill the last one.
    fn reordered(self, order: Order, rows: usize, blocks: usize, arena: &Arena, pool: &Pool) -> Self {
        let panel = PANEL * blocks;
        let from = self.as_slice();
        let bytes = arena.put(rows.div_ceil(PANEL) * panel * size_of::<T>(), |to| {
            pool.chunks(bytemuck::cast_slice_mut(to), panel, |index, to: &mut [T]| {
                let rows = from[index * panel..].chunks(blocks.max(1)).take(PANEL);
                for (row, from) in rows.enumerate() {
                    for (block, to) in from.iter().zip(to.chunks_exact_mut(PANEL)) {
                        match order {
                            Order::Woven => weave(block, row, to),
                            Order::Interleaved | Order::Rows => to[row] = *block,
                        }
                    }
                }
            });
        });
        match bytes {
            Some(bytes) => Self { bytes, order, block: PhantomData },
            None => self,
        }
    }
}

impl Blocks<f32> {
    fn owned(values: &[f32]) -> Self {
        Self::in_rows(aligned_copy(bytemuck::cast_slice(values)))
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
