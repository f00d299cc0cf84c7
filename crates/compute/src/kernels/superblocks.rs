//! GGUF's k-quants: blocks of 256 elements with a scale for every 16 or 32 of them, as they lie in the file.
//!
//! Unpacked, all five look the same: 16 parts of 16 elements, an element being
//! `(quant * part scale) * scale - part minimum * min`, all but `scale` and `min` small integers.

use bytemuck::{Pod, Zeroable};
use half::f16;

/// Elements of a block.
pub(crate) const SUPERBLOCK: usize = 256;
/// Parts of a block.
const PARTS: usize = 16;
/// Elements of a part.
const PART: usize = SUPERBLOCK / PARTS;

/// The integers of a block.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Unpacked {
    /// Unsigned, below 64, in element order.
    pub(crate) quants: [u8; SUPERBLOCK],
    /// Scale of each part, twice each.
    pub(crate) scales: [[i16; 2]; PARTS],
    /// Minimum of each part.
    pub(crate) mins: [i16; PARTS],
}

/// A k-quant.
pub(crate) trait SuperBlock: Pod {
    /// Largest quant.
    const LARGEST: i32;
    /// Whether the minima stand for a zero point, and are multiplied by the scale therefore.
    const SYMMETRIC: bool;

    /// What the integers are multiplied by: the scale, and the minimum's.
    fn factors(&self) -> [f32; 2];

    /// Unpacks the integers.
    fn unpack(&self, to: &mut Unpacked);
}

/// `Q2_K`: 2 bits, 4-bit scales and minima.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q2K {
    scales: [u8; PARTS],
    quants: [u8; SUPERBLOCK / 4],
    scale: [u8; 2],
    min: [u8; 2],
}

/// `Q3_K`: 3 bits, 6-bit scales, symmetric.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q3K {
    high: [u8; SUPERBLOCK / 8],
    quants: [u8; SUPERBLOCK / 4],
    scales: [u8; 12],
    scale: [u8; 2],
}

/// `Q4_K`: 4 bits, 6-bit scales and minima for every 32 elements.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4K {
    scale: [u8; 2],
    min: [u8; 2],
    scales: [u8; 12],
    quants: [u8; SUPERBLOCK / 2],
}

/// `Q5_K`: as `Q4_K` with one more bit.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5K {
    scale: [u8; 2],
    min: [u8; 2],
    scales: [u8; 12],
    high: [u8; SUPERBLOCK / 8],
    quants: [u8; SUPERBLOCK / 2],
}

/// `Q6_K`: 6 bits, 8-bit scales, symmetric.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q6K {
    low: [u8; SUPERBLOCK / 2],
    high: [u8; SUPERBLOCK / 4],
    scales: [i8; PARTS],
    scale: [u8; 2],
}

/// Activations as candle and ggml quantise them for k-quants.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8K {
    /// Factor on the quants.
    pub(crate) scale: f32,
    /// Signed quants in element order.
    pub(crate) quants: [i8; SUPERBLOCK],
    /// Sum of the quants of each part.
    pub(crate) sums: [i16; PARTS],
}

/// Writes the products of weight rows, as the bytes of a file, with every one of the `rows` activation rows to `out`.
/// `next` is what follows the weights in memory.
///
/// # Panics
/// If `dtype` is no k-quant or the lengths do not fit together.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) fn multiply(
    isa: super::Isa,
    dtype: candle_core::quantized::GgmlDType,
    (weights, next): (&[u8], &[u8]),
    activations: &[Q8K],
    rows: usize,
    out: &mut super::columns::Columns<'_>,
) {
    if rows > 0 {
        super::wasm::superblocks::multiply(isa, dtype, weights, next, activations, rows, out);
    }
}

impl SuperBlock for Q2K {
    const LARGEST: i32 = 3;
    const SYMMETRIC: bool = false;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale), half(self.min)]
    }

    fn unpack(&self, to: &mut Unpacked) {
        for (part, scales) in self.scales.iter().enumerate() {
            to.scales[part] = [i16::from(scales & 0xf); 2];
            to.mins[part] = i16::from(scales >> 4);
        }
        two_bits(&self.quants, &mut to.quants);
    }
}

impl SuperBlock for Q3K {
    const LARGEST: i32 = 7;
    const SYMMETRIC: bool = true;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale); 2]
    }

    fn unpack(&self, to: &mut Unpacked) {
        let packed = &self.scales;
        for part in 0..PARTS {
            let low = (packed[part % 8] >> (part / 8 * 4)) & 0xf;
            let high = (packed[8 + part % 4] >> (part / 4 * 2)) & 3;
            let scale = i16::from(low | high << 4) - 32;
            to.scales[part] = [scale; 2];
            to.mins[part] = scale * 4;
        }
        two_bits(&self.quants, &mut to.quants);
        for (group, quants) in to.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (quant, high) in quants.iter_mut().zip(self.high) {
                *quant |= ((high >> group) & 1) << 2;
            }
        }
    }
}

impl SuperBlock for Q4K {
    const LARGEST: i32 = 15;
    const SYMMETRIC: bool = false;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale), half(self.min)]
    }

    fn unpack(&self, to: &mut Unpacked) {
        six_bit_scales(&self.scales, to);
        nibbles(&self.quants, &mut to.quants);
    }
}

impl SuperBlock for Q5K {
    const LARGEST: i32 = 31;
    const SYMMETRIC: bool = false;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale), half(self.min)]
    }

    fn unpack(&self, to: &mut Unpacked) {
        six_bit_scales(&self.scales, to);
        nibbles(&self.quants, &mut to.quants);
        for (group, quants) in to.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (quant, high) in quants.iter_mut().zip(self.high) {
                *quant |= ((high >> group) & 1) << 4;
            }
        }
    }
}

impl SuperBlock for Q6K {
    const LARGEST: i32 = 63;
    const SYMMETRIC: bool = true;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale); 2]
    }

    fn unpack(&self, to: &mut Unpacked) {
        for (part, &scale) in self.scales.iter().enumerate() {
            to.scales[part] = [i16::from(scale); 2];
            to.mins[part] = i16::from(scale) * 32;
        }
        for (group, quants) in to.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, quarter) = (group / 4, group % 4);
            let low = &self.low[half * 64 + quarter % 2 * 32..][..32];
            let high = &self.high[half * 32..][..32];
            for ((quant, low), high) in quants.iter_mut().zip(low).zip(high) {
                *quant = (low >> (quarter / 2 * 4)) & 0xf | ((high >> (quarter * 2)) & 3) << 4;
            }
        }
    }
}

#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// 32 bytes hold four groups of 32 elements, two bits each.
#[inline(always)]
fn two_bits(packed: &[u8; SUPERBLOCK / 4], quants: &mut [u8; SUPERBLOCK]) {
    for (group, quants) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (quant, packed) in quants.iter_mut().zip(&packed[group / 4 * 32..]) {
            *quant = (packed >> (group % 4 * 2)) & 3;
        }
    }
}

/// 32 bytes hold 32 elements in their low nibbles and the next 32 in their high ones.
#[inline(always)]
fn nibbles(packed: &[u8; SUPERBLOCK / 2], quants: &mut [u8; SUPERBLOCK]) {
    for (quants, packed) in quants.as_chunks_mut::<64>().0.iter_mut().zip(packed.as_chunks::<32>().0) {
        let (low, high) = quants.split_at_mut(32);
        for ((low, high), packed) in low.iter_mut().zip(high).zip(packed) {
            (*low, *high) = (packed & 0xf, packed >> 4);
        }
    }
}

/// Eight scales and minima of 6 bits in 12 bytes: the first four lie in the low bits of bytes 0 to 7, the others in nibbles
/// of bytes 8 to 11 and the high bits of the first eight.
#[inline(always)]
fn six_bit_scales(packed: &[u8; 12], to: &mut Unpacked) {
    for group in 0..8 {
        let (scale, min) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            (
                packed[group + 4] & 0xf | (packed[group - 4] >> 6) << 4,
                packed[group + 4] >> 4 | (packed[group] >> 6) << 4,
            )
        };
        for part in 0..32 / PART {
            to.scales[group * 2 + part] = [i16::from(scale); 2];
            to.mins[group * 2 + part] = i16::from(min);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlType, k_quants};

    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Unpacks random blocks and compares the elements with candle's.
    fn agrees_with_candle<B: SuperBlock, C: GgmlType>(at: &[usize]) {
        let mut state = 11u32;
        let mut bytes: Vec<u8> = (0..5 * size_of::<B>())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for block in bytes.chunks_exact_mut(size_of::<B>()) {
            for &at in at {
                block[at..at + 2].copy_from_slice(&f16::from_f32(0.37).to_le_bytes());
            }
        }
        let blocks: Vec<B> = bytes.chunks_exact(size_of::<B>()).map(bytemuck::pod_read_unaligned).collect();
        let mut candle = vec![C::zeros(); 5];
        // SAFETY: candle's blocks are `repr(C)` integers without padding, and the lengths agree.
        #[allow(unsafe_code)]
        unsafe {
            assert_eq!(size_of::<B>(), size_of::<C>());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), candle.as_mut_ptr().cast(), bytes.len());
        }
        let mut wanted = vec![0f32; 5 * SUPERBLOCK];
        C::to_float(&candle, &mut wanted);
        for (block, wanted) in blocks.iter().zip(wanted.chunks_exact(SUPERBLOCK)) {
            let mut found = Unpacked::zeroed();
            block.unpack(&mut found);
            let [scale, min] = block.factors();
            assert!(!B::SYMMETRIC || scale == min);
            for (i, wanted) in wanted.iter().enumerate() {
                let [part, twice] = found.scales[i / PART];
                assert!(part == twice && i32::from(found.quants[i]) <= B::LARGEST);
                let element = f32::from(found.quants[i]) * f32::from(part) * scale
                    - f32::from(found.mins[i / PART]) * min;
                assert!(
                    (element - wanted).abs() <= 1e-4 * wanted.abs().max(100.0),
                    "{i}: {element} for {wanted}"
                );
            }
        }
    }

    #[test]
    fn every_type_unpacks_to_what_candle_reads() {
        agrees_with_candle::<Q2K, k_quants::BlockQ2K>(&[80, 82]);
        agrees_with_candle::<Q3K, k_quants::BlockQ3K>(&[108]);
        agrees_with_candle::<Q4K, k_quants::BlockQ4K>(&[0, 2]);
        agrees_with_candle::<Q5K, k_quants::BlockQ5K>(&[0, 2]);
        agrees_with_candle::<Q6K, k_quants::BlockQ6K>(&[208]);
    }
}
