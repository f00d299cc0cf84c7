//! GGUF's quantised blocks of 32 elements, as they lie in the file.
//!
//! One element is `(quant - ZERO) * scale (+ min)`, with the quants taken as unsigned bytes. The fields are byte arrays,
//! so the types have alignment 1 and every bit pattern is valid.

use bytemuck::{Pod, Zeroable};
use half::f16;

/// Elements of a block.
pub(crate) const BLOCK: usize = 32;

/// How a block lays out its quants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64", target_feature = "simd128")),
    allow(dead_code, reason = "portable code asks for the quants themselves")
)]
pub(crate) enum Quants {
    /// Byte `i` holds elements `i` (low nibble) and `i + 16` (high nibble).
    Nibbles,
    /// As `Nibbles`, with bit 4 of element `i` in bit `i` of a `u32`.
    NibblesAndBit,
    /// One signed byte an element.
    Bytes,
}

/// A block format whose integer dot product is exact in `i32`.
///
/// The scale always lies at byte 0 and the minimum, if any, at byte 2.
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64", target_feature = "simd128")),
    allow(dead_code, reason = "portable code asks for the quants themselves")
)]
pub(crate) trait Block32: Pod + Send + Sync + std::fmt::Debug {
    /// The quant that stands for zero; a power of two, or 0 for formats with a minimum.
    const ZERO: i32;
    /// Whether a minimum is added.
    const HAS_MIN: bool;
    /// Layout of the quants.
    const QUANTS: Quants;
    /// Byte offset of the quants (of the nibbles, for `NibblesAndBit`).
    const QUANTS_AT: usize;

    /// Factor on the quants.
    fn scale(&self) -> f32;
    /// What is added to every element; 0 without a minimum.
    fn min(&self) -> f32;
    /// The unsigned quants in element order.
    fn quants(&self) -> [u8; BLOCK];

    /// The elements as floats.
    fn dequantize(&self, out: &mut [f32; BLOCK]) {
        let (scale, min) = (self.scale(), self.min());
        for (out, quant) in out.iter_mut().zip(self.quants()) {
            *out = (i32::from(quant) - Self::ZERO) as f32 * scale + min;
        }
    }
}

/// `Q4_0`: 4 bits, symmetric.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_0 {
    scale: [u8; 2],
    nibbles: [u8; 16],
}

/// `Q4_1`: 4 bits and a minimum.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_1 {
    scale: [u8; 2],
    min: [u8; 2],
    nibbles: [u8; 16],
}

/// `Q5_0`: 5 bits, symmetric.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_0 {
    scale: [u8; 2],
    bits: [u8; 4],
    nibbles: [u8; 16],
}

/// `Q5_1`: 5 bits and a minimum.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_1 {
    scale: [u8; 2],
    min: [u8; 2],
    bits: [u8; 4],
    nibbles: [u8; 16],
}

/// `Q8_0`: 8 bits, symmetric.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8_0 {
    scale: [u8; 2],
    bytes: [u8; 32],
}

impl Block32 for Q4_0 {
    const ZERO: i32 = 8;
    const HAS_MIN: bool = false;
    const QUANTS: Quants = Quants::Nibbles;
    const QUANTS_AT: usize = 2;

    fn scale(&self) -> f32 {
        half(self.scale)
    }

    fn min(&self) -> f32 {
        0.0
    }

    fn quants(&self) -> [u8; BLOCK] {
        nibbles(&self.nibbles)
    }
}

impl Block32 for Q4_1 {
    const ZERO: i32 = 0;
    const HAS_MIN: bool = true;
    const QUANTS: Quants = Quants::Nibbles;
    const QUANTS_AT: usize = 4;

    fn scale(&self) -> f32 {
        half(self.scale)
    }

    fn min(&self) -> f32 {
        half(self.min)
    }

    fn quants(&self) -> [u8; BLOCK] {
        nibbles(&self.nibbles)
    }
}

impl Block32 for Q5_0 {
    const ZERO: i32 = 16;
    const HAS_MIN: bool = false;
    const QUANTS: Quants = Quants::NibblesAndBit;
    const QUANTS_AT: usize = 6;

    fn scale(&self) -> f32 {
        half(self.scale)
    }

    fn min(&self) -> f32 {
        0.0
    }

    fn quants(&self) -> [u8; BLOCK] {
        with_bits(nibbles(&self.nibbles), self.bits)
    }
}

impl Block32 for Q5_1 {
    const ZERO: i32 = 0;
    const HAS_MIN: bool = true;
    const QUANTS: Quants = Quants::NibblesAndBit;
    const QUANTS_AT: usize = 8;

    fn scale(&self) -> f32 {
        half(self.scale)
    }

    fn min(&self) -> f32 {
        half(self.min)
    }

    fn quants(&self) -> [u8; BLOCK] {
        with_bits(nibbles(&self.nibbles), self.bits)
    }
}

impl Block32 for Q8_0 {
    const ZERO: i32 = 128;
    const HAS_MIN: bool = false;
    const QUANTS: Quants = Quants::Bytes;
    const QUANTS_AT: usize = 2;

    fn scale(&self) -> f32 {
        half(self.scale)
    }

    fn min(&self) -> f32 {
        0.0
    }

    fn quants(&self) -> [u8; BLOCK] {
        self.bytes.map(|b| b ^ 0x80)
    }
}

#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

#[inline(always)]
fn nibbles(packed: &[u8; 16]) -> [u8; BLOCK] {
    let mut quants = [0; BLOCK];
    for (i, &byte) in packed.iter().enumerate() {
        quants[i] = byte & 0xf;
        quants[i + 16] = byte >> 4;
    }
    quants
}

#[inline(always)]
fn with_bits(mut quants: [u8; BLOCK], bits: [u8; 4]) -> [u8; BLOCK] {
    let bits = u32::from_le_bytes(bits);
    for (i, quant) in quants.iter_mut().enumerate() {
        *quant |= ((bits >> i) as u8 & 1) << 4;
    }
    quants
}
