//! f16 to f32 and back, which wasm has no instructions for: exact, and rounded to the nearest even.

use std::arch::wasm32::*;

/// The low 16 bits of each 32-bit lane as f32.
#[inline(always)]
pub(super) fn low_halves(words: v128) -> v128 {
    widen(i32x4_shl(words, 13), i32x4_shl(words, 16))
}

/// The high 16 bits of each 32-bit lane as f32.
#[inline(always)]
pub(super) fn high_halves(words: v128) -> v128 {
    widen(u32x4_shr(words, 3), words)
}

/// `magnitude` holds exponent and fraction from bit 13 on, `sign` the sign in bit 31; other bits are cleared here.
#[inline(always)]
fn widen(magnitude: v128, sign: v128) -> v128 {
    /// 2^112: the difference of the exponents' biases.
    const REBIAS: f32 = 5.192_296_9e33;
    let magnitude = v128_and(magnitude, u32x4_splat(0x0fff_e000));
    // The multiplication also brings subnormals into the range of normal numbers.
    let finite = f32x4_mul(magnitude, f32x4_splat(REBIAS));
    let infinite = v128_and(i32x4_gt(magnitude, u32x4_splat(0x0f7f_ffff)), u32x4_splat(0x7f80_0000));
    v128_or(v128_or(finite, infinite), v128_and(sign, u32x4_splat(0x8000_0000)))
}
