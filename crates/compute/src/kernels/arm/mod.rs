//! Kernels for aarch64: NEON, which every such processor has, and its dot products of bytes.

pub(super) mod attention;
mod dot;
pub(super) mod floats;
pub(super) mod panel;
pub(super) mod superblocks;

use std::arch::aarch64::*;
use std::arch::asm;

use super::Isa;

/// Floats of a vector.
const LANES: usize = 4;

/// What this machine runs, from the plainest to the best.
pub(super) fn available() -> &'static [Isa] {
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        &[Isa::Portable, Isa::Neon, Isa::NeonDot]
    } else {
        &[Isa::Portable, Isa::Neon]
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32; LANES]) -> float32x4_t {
    // SAFETY: the array is a vector long.
    #[allow(unsafe_code)]
    unsafe {
        vld1q_f32(from.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(from: &[i8; 16]) -> int8x16_t {
    // SAFETY: the array is a vector long.
    #[allow(unsafe_code)]
    unsafe {
        vld1q_s8(from.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_halves(from: &[u16; 8]) -> uint16x8_t {
    // SAFETY: the array is a vector long.
    #[allow(unsafe_code)]
    unsafe {
        vld1q_u16(from.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [f32; LANES], vector: float32x4_t) {
    // SAFETY: the array is a vector long.
    #[allow(unsafe_code)]
    unsafe {
        vst1q_f32(to.as_mut_ptr(), vector);
    }
}

/// f16 to f32.
#[inline]
#[target_feature(enable = "neon")]
fn widen(halves: uint16x4_t) -> float32x4_t {
    vcvt_f32_f16(vreinterpret_f16_u16(halves))
}

/// One 32-bit word of four rows.
///
/// # Safety
/// Four bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "neon")]
unsafe fn gather(first: *const u8, stride: usize) -> uint32x4_t {
    // SAFETY: the caller's promise; no alignment is asked for.
    unsafe {
        let word = |row: usize| first.add(row * stride).cast::<u32>().read_unaligned();
        let words = vdupq_n_u32(word(0));
        let words = vsetq_lane_u32::<1>(word(1), words);
        let words = vsetq_lane_u32::<2>(word(2), words);
        vsetq_lane_u32::<3>(word(3), words)
    }
}

/// Four 32-bit words of four rows: vector `w` of the result holds word `w` of each row.
///
/// # Safety
/// Sixteen bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "neon")]
unsafe fn transpose(first: *const u8, stride: usize) -> [uint8x16_t; 4] {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = unsafe {
        let row = |row: usize| vreinterpretq_u32_u8(vld1q_u8(first.add(row * stride)));
        [row(0), row(1), row(2), row(3)]
    };
    let join = |ab: uint32x4_t, cd: uint32x4_t| {
        let (ab, cd) = (vreinterpretq_u64_u32(ab), vreinterpretq_u64_u32(cd));
        [vreinterpretq_u8_u64(vtrn1q_u64(ab, cd)), vreinterpretq_u8_u64(vtrn2q_u64(ab, cd))]
    };
    let [zero, two] = join(vtrn1q_u32(a, b), vtrn1q_u32(c, d));
    let [one, three] = join(vtrn2q_u32(a, b), vtrn2q_u32(c, d));
    [zero, one, two, three]
}

/// Asks for the cache line of an address, into the cache of this level.
#[inline(always)]
fn prefetch<const LEVEL: u32>(address: *const u8) {
    // SAFETY: a prefetch of any address, mapped or not, changes nothing but the caches.
    #[allow(unsafe_code)]
    unsafe {
        asm!(
            "prfm pldl{level}keep, [{address}]",
            level = const LEVEL,
            address = in(reg) address,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// The rows of a panel are read side by side, which the hardware may not see as one stream; as a whole the weights are one,
/// so what lies `ahead` blocks behind `first` is asked for in the order of its addresses, `count` blocks a call.
#[inline(always)]
fn prefetch_blocks<B>(first: *const B, ahead: usize, count: usize) {
    const LINE: usize = 64;
    let next = first.wrapping_add(ahead).cast::<u8>();
    for line in 0..(count * size_of::<B>()).div_ceil(LINE) {
        prefetch::<1>(next.wrapping_add(line * LINE));
    }
}
