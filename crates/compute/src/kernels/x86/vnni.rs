//! AVX-512 VNNI: 16 weight rows to a register, four elements of each to an instruction.
//!
//! The rows are interleaved by 4x4 transposes of 32-bit words while still packed, so unpacking costs about three
//! instructions a row and block and no weight needs repacking at load. Few activation rows are multiplied straight from
//! the registers; from [`UNPACK_ROWS`] on the panel is unpacked once to L1 and read from there.

use std::arch::x86_64::*;

use super::stream::Ahead;
use super::unpacked::{Interleaved, with_interleaved};
use crate::kernels::activations::Q8Rows;
use crate::kernels::blocks::{BLOCK, Block32, Quants};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};

/// Activation rows from which unpacking the panel first pays.
const UNPACK_ROWS: usize = 9;

/// One block of 16 rows in registers.
#[derive(Clone, Copy)]
struct Block {
    quants: [__m512i; 8],
    scales: __m512,
    mins: __m512,
}

/// Where the blocks of a panel come from.
trait Source<B: Block32>: Copy {
    /// # Safety
    /// AVX-512 F, BW, VL and VNNI must be there, and `index` below the panel's blocks.
    #[allow(unsafe_code)]
    unsafe fn block(self, index: usize) -> Block;

    /// Asks for what is read some way after block `index`.
    fn prefetch(self, index: usize);
}

/// Blocks as in the file.
#[derive(Clone, Copy)]
struct Packed<B> {
    first: *const B,
    ahead: Ahead<B>,
    /// Blocks from a row to the next.
    row_stride: usize,
    /// Blocks from one of a row to its next.
    block_stride: usize,
}

/// Blocks unpacked before.
#[derive(Clone, Copy)]
struct Unpacked(*const Interleaved);

/// See [`crate::kernels::panel::multiply`], which checked the lengths and that this machine has AVX-512 VNNI.
pub(in crate::kernels) fn multiply<B: Block32>(
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    with_full_panel(weights, blocks, |weights| {
        // SAFETY: the instruction set was detected; `weights` holds 16 rows of `blocks` blocks.
        #[allow(unsafe_code)]
        unsafe {
            product(weights, activations, out);
        }
    });
}

/// # Safety
/// `weights` must hold 16 rows of `activations.blocks()` blocks.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn product<B: Block32>(weights: Panel<'_, B>, activations: &Q8Rows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let (row_stride, block_stride) = weights.strides(blocks);
    let (first, ahead) = (weights.blocks.as_ptr(), Ahead::of(&weights));
    let packed = Packed { first, ahead, row_stride, block_stride };
    // SAFETY: `packed` and `unpacked` hold `blocks` blocks; the row ranges end at `rows`.
    unsafe {
        if rows < UNPACK_ROWS {
            match rows {
                1 => tile::<1, B, _>(packed, activations, 0, out),
                2 => tile::<2, B, _>(packed, activations, 0, out),
                3 => tile::<3, B, _>(packed, activations, 0, out),
                4 => tile::<4, B, _>(packed, activations, 0, out),
                5 => tile::<5, B, _>(packed, activations, 0, out),
                6 => tile::<6, B, _>(packed, activations, 0, out),
                7 => tile::<7, B, _>(packed, activations, 0, out),
                8 => tile::<8, B, _>(packed, activations, 0, out),
                _ => {}
            }
            return;
        }
        with_interleaved(blocks, |panel| {
            for (index, target) in panel.iter_mut().enumerate() {
                unpack(packed, index, target);
            }
            let unpacked = Unpacked(panel.as_ptr());
            let mut row = 0;
            while row + 8 <= rows {
                tile::<8, B, _>(unpacked, activations, row, out);
                row += 8;
            }
            if row + 4 <= rows {
                tile::<4, B, _>(unpacked, activations, row, out);
                row += 4;
            }
            match rows - row {
                3 => tile::<3, B, _>(unpacked, activations, row, out),
                2 => tile::<2, B, _>(unpacked, activations, row, out),
                1 => tile::<1, B, _>(unpacked, activations, row, out),
                _ => {}
            }
        });
    }
}

/// Products of the panel with activation rows `row..row + R`.
///
/// # Safety
/// `source` must hold `activations.blocks()` blocks, and there must be `row + R` activation rows.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<const R: usize, B: Block32, S: Source<B>>(
    source: S,
    activations: &Q8Rows,
    row: usize,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let quants = activations.quants()[row * blocks * BLOCK..][..R * blocks * BLOCK].as_ptr();
    let scales = activations.scales()[row * blocks..][..R * blocks].as_ptr();
    let mut sums = [_mm512_setzero_ps(); R];
    for index in 0..blocks {
        // SAFETY: `index < blocks`; the slices above hold R rows of `blocks` blocks.
        unsafe {
            source.prefetch(index);
            let block = source.block(index);
            let by: [_; R] = std::array::from_fn(|r| &*scales.add(r * blocks + index));
            let mut dots: [__m512i; R] = std::array::from_fn(|r| zero_point::<B>(by[r].negated));
            for (word, &weights) in block.quants.iter().enumerate() {
                for (r, dot) in dots.iter_mut().enumerate() {
                    let four =
                        quants.add((r * blocks + index) * BLOCK + word * 4).cast::<i32>().read_unaligned();
                    *dot = _mm512_dpbusd_epi32(*dot, weights, _mm512_set1_epi32(four));
                }
            }
            for r in 0..R {
                let dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[r]), block.scales);
                let mut term = _mm512_mul_ps(dot, _mm512_set1_ps(by[r].scale));
                if B::HAS_MIN {
                    term = _mm512_add_ps(term, _mm512_mul_ps(block.mins, _mm512_set1_ps(by[r].sum)));
                }
                sums[r] = _mm512_add_ps(sums[r], term);
            }
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let mut values = [0f32; PANEL];
        // SAFETY: `values` is 64 bytes.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), sum) };
        out.set(row + r, 0, &values);
    }
}

/// `negated * ZERO` in every lane: what unsigned quants have too much in a dot product.
#[inline]
#[target_feature(enable = "avx512f")]
fn zero_point<B: Block32>(negated: i32) -> __m512i {
    if B::ZERO == 0 {
        return _mm512_setzero_si512();
    }
    let shift = _mm512_set1_epi32(B::ZERO.trailing_zeros().cast_signed());
    _mm512_sllv_epi32(_mm512_set1_epi32(negated), shift)
}

impl<B: Block32> Source<B> for Unpacked {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn block(self, index: usize) -> Block {
        // SAFETY: the caller keeps `index` in the panel; `Interleaved` is aligned to 64 bytes.
        unsafe {
            let panel = &*self.0.add(index);
            Block {
                quants: std::array::from_fn(|w| _mm512_load_si512(panel.quants[w].as_ptr().cast())),
                scales: _mm512_load_ps(panel.scales.as_ptr()),
                mins: if B::HAS_MIN { _mm512_load_ps(panel.mins.as_ptr()) } else { _mm512_setzero_ps() },
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, _: usize) {}
}

impl<B: Block32> Source<B> for Packed<B> {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
    unsafe fn block(self, index: usize) -> Block {
        // SAFETY: the caller keeps `index` below a row's blocks, so every row's block lies in the panel; each load below stays
        // within `size_of::<B>()` bytes of its row's block.
        unsafe {
            let first = self.first.add(index * self.block_stride).cast::<u8>();
            let stride = self.row_stride * size_of::<B>();
            let [head, next, ..] = transpose(first, stride);
            let scales = halves(head);
            let mins = if B::HAS_MIN { halves(_mm512_srli_epi32::<16>(head)) } else { _mm512_setzero_ps() };
            let low = transpose(first.add(B::QUANTS_AT), stride);
            let mut quants = [_mm512_setzero_si512(); 8];
            if B::QUANTS == Quants::Bytes {
                let high = transpose(first.add(B::QUANTS_AT + 16), stride);
                let unsigned = _mm512_set1_epi8(i8::MIN);
                for i in 0..4 {
                    quants[i] = _mm512_xor_si512(low[i], unsigned);
                    quants[i + 4] = _mm512_xor_si512(high[i], unsigned);
                }
            } else {
                let nibble = _mm512_set1_epi8(0xf);
                for i in 0..4 {
                    quants[i] = _mm512_and_si512(low[i], nibble);
                    quants[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(low[i]), nibble);
                }
            }
            if B::QUANTS == Quants::NibblesAndBit {
                // The bits follow the scales: word 1, or the word that straddles 0 and 1 when there is no minimum.
                let bits = if B::HAS_MIN {
                    next
                } else {
                    _mm512_or_si512(_mm512_srli_epi32::<16>(head), _mm512_slli_epi32::<16>(next))
                };
                let spread = _mm512_loadu_si512(SPREAD_BITS.as_ptr().cast());
                for (i, quants) in quants.iter_mut().enumerate() {
                    let four = _mm512_srlv_epi32(bits, _mm512_set1_epi32(4 * i as i32));
                    *quants = _mm512_or_si512(*quants, _mm512_permutexvar_epi32(four, spread));
                }
            }
            Block { quants, scales, mins }
        }
    }

    #[inline(always)]
    fn prefetch(self, index: usize) {
        self.ahead.prefetch(index);
    }
}

/// Stores block `index` interleaved.
///
/// # Safety
/// `index` must be below the blocks of a row.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn unpack<B: Block32>(packed: Packed<B>, index: usize, target: &mut Interleaved) {
    // SAFETY: the caller keeps `index` in the panel; `Interleaved` is aligned to 64 bytes.
    unsafe {
        let block = packed.block(index);
        for (target, quants) in target.quants.iter_mut().zip(block.quants) {
            _mm512_store_si512(target.as_mut_ptr().cast(), quants);
        }
        _mm512_store_ps(target.scales.as_mut_ptr(), block.scales);
        _mm512_store_ps(target.mins.as_mut_ptr(), block.mins);
    }
}

/// Four 32-bit words of 16 rows: register `w` of the result holds word `w` of rows 0 to 15.
///
/// # Safety
/// Sixteen bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(first: *const u8, stride: usize) -> [__m512i; 4] {
    let rows: [__m512i; 4] = std::array::from_fn(|i| {
        // SAFETY: the caller's promise.
        unsafe {
            let row = |r: usize| _mm_loadu_si128(first.add(r * stride).cast());
            let x = _mm512_castsi128_si512(row(i));
            let x = _mm512_inserti32x4::<1>(x, row(i + 4));
            let x = _mm512_inserti32x4::<2>(x, row(i + 8));
            _mm512_inserti32x4::<3>(x, row(i + 12))
        }
    });
    let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
    let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
    [
        _mm512_unpacklo_epi64(low[0], low[1]),
        _mm512_unpackhi_epi64(low[0], low[1]),
        _mm512_unpacklo_epi64(high[0], high[1]),
        _mm512_unpackhi_epi64(high[0], high[1]),
    ]
}

/// The low 16 bits of each word, as f16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

/// Word `n` holds bit `i` of `n` as bit 4 of byte `i`.
static SPREAD_BITS: [i32; 16] = {
    let mut table = [0; 16];
    let mut n = 0;
    while n < 16 {
        table[n as usize] = ((n & 1) << 4) | ((n & 2) << 11) | ((n & 4) << 18) | ((n & 8) << 25);
        n += 1;
    }
    table
};
