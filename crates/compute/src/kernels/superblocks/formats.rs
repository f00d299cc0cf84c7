//! The five formats, as they lie in the file, and the integers that they pack.

use bytemuck::{Pod, Zeroable};
use half::f16;

/// Elements of a block.
pub(crate) const SUPERBLOCK: usize = 256;
/// Parts of a block.
pub(crate) const PARTS: usize = 16;
/// Elements of a part.
pub(crate) const PART: usize = SUPERBLOCK / PARTS;

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

/// The formats by name, for kernels that take the packed bytes apart themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64")),
    allow(dead_code, reason = "others ask for the unpacked integers")
)]
pub(crate) enum Format {
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// A k-quant.
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64")),
    allow(dead_code, reason = "others ask for the unpacked integers")
)]
pub(crate) trait SuperBlock: Pod + Send + Sync + std::fmt::Debug {
    /// Its name.
    const FORMAT: Format;
    /// Largest quant.
    const LARGEST: i32;
    /// The quant that stands for zero, or 0 for formats with minima. The minima of the others are their scales times this,
    /// and are multiplied by the scale therefore.
    const ZERO: i32;
    /// Whether there are no minima.
    const SYMMETRIC: bool = Self::ZERO != 0;
    /// Elements that share a scale.
    const SPAN: usize = PART;

    /// What the integers are multiplied by: the scale, and the minimum's.
    fn factors(&self) -> [f32; 2];

    /// Unpacks the integers.
    fn unpack(&self, to: &mut Unpacked);

    /// The elements as floats, by ggml's order of operations.
    fn dequantize(&self, out: &mut [f32; SUPERBLOCK]) {
        let mut unpacked = Unpacked::zeroed();
        self.unpack(&mut unpacked);
        let [scale, min] = self.factors();
        for (part, out) in out.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
            let scale = scale * f32::from(unpacked.scales[part][0]);
            let min = if Self::SYMMETRIC { 0.0 } else { min * f32::from(unpacked.mins[part]) };
            for (out, &quant) in out.iter_mut().zip(&unpacked.quants[part * PART..]) {
                *out = scale * (i32::from(quant) - Self::ZERO) as f32 - min;
            }
        }
    }
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

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
impl Q4K {
    /// Offset of the nibbles; the scales come first.
    pub(crate) const QUANTS_AT: usize = std::mem::offset_of!(Self, quants);
}

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
impl Q5K {
    /// Offset of the nibbles; the scales come first.
    pub(crate) const QUANTS_AT: usize = std::mem::offset_of!(Self, quants);
    /// Offset of the fifth bits: bit `g` of byte `i` is element `32 * g + i`'s.
    pub(crate) const HIGH_AT: usize = std::mem::offset_of!(Self, high);
}

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
impl Q6K {
    /// Offset of the upper two bits; the nibbles come first.
    pub(crate) const HIGH_AT: usize = std::mem::offset_of!(Self, high);
    /// Offset of the scales; the factor on them comes last.
    pub(crate) const SCALES_AT: usize = std::mem::offset_of!(Self, scales);
}

impl SuperBlock for Q2K {
    const FORMAT: Format = Format::Q2K;
    const LARGEST: i32 = 3;
    const ZERO: i32 = 0;

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
    const FORMAT: Format = Format::Q3K;
    const LARGEST: i32 = 7;
    const ZERO: i32 = 4;

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
    const FORMAT: Format = Format::Q4K;
    const LARGEST: i32 = 15;
    const ZERO: i32 = 0;
    const SPAN: usize = 2 * PART;

    fn factors(&self) -> [f32; 2] {
        [half(self.scale), half(self.min)]
    }

    fn unpack(&self, to: &mut Unpacked) {
        six_bit_scales(&self.scales, to);
        nibbles(&self.quants, &mut to.quants);
    }
}

impl SuperBlock for Q5K {
    const FORMAT: Format = Format::Q5K;
    const LARGEST: i32 = 31;
    const ZERO: i32 = 0;
    const SPAN: usize = 2 * PART;

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
    const FORMAT: Format = Format::Q6K;
    const LARGEST: i32 = 63;
    const ZERO: i32 = 32;

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
