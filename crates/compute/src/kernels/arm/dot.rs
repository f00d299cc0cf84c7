//! Dot products of four rows at a time: lane `l` of a vector holds four bytes of row `l`, and of the activations, four words of
//! a row lie in one vector, one of which is taken.

use std::arch::aarch64::*;
use std::arch::asm;

/// A way to multiply four elements of four weight rows with the same four of an activation row.
pub(super) trait Dot {
    /// A sum in the making.
    type Sum: Copy;

    /// Nothing added yet to `from`.
    fn start(from: int32x4_t) -> Self::Sum;
    /// Adds the products of a word of each row with word `WORD % 4` of the activations.
    fn add<const WORD: usize>(sum: Self::Sum, weights: int8x16_t, activations: int8x16_t) -> Self::Sum;
    /// The sum of each row.
    fn total(sum: Self::Sum) -> int32x4_t;
}

/// Runs `$body` with `$word` each of the numbers, a constant: as an instruction's operand must be, and for a loop whose
/// vectors must stay in registers.
macro_rules! for_each_word {
    ($word:ident in [$($number:literal)*] $body:block) => {
        for_each_word!(@ $word $body $($number)*)
    };
    (@ $word:ident $body:block $($number:literal)*) => {$({
        const $word: usize = $number;
        $body
    })*};
}
pub(super) use for_each_word;

/// `sdot`: four products added to a lane at once. Only where it was detected.
pub(super) struct Quads;

impl Dot for Quads {
    type Sum = int32x4_t;

    #[inline(always)]
    fn start(from: int32x4_t) -> int32x4_t {
        from
    }

    #[inline(always)]
    fn add<const WORD: usize>(mut sum: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
        // The intrinsic is not stable yet, and a function that enables the feature would not be inlined everywhere.
        // SAFETY: registers only; `Isa::NeonDot`, which alone leads here, is available only where the instruction was
        // detected.
        #[allow(unsafe_code)]
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                weights = in(vreg) weights,
                activations = in(vreg) activations,
                lane = const WORD % 4,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sum
    }

    #[inline(always)]
    fn total(sum: int32x4_t) -> int32x4_t {
        sum
    }
}

/// Plain vectors: products added in 16 bits and widened in the end. Eight words of weights up to 31 stay below
/// `31 * 128 * 8 < 2^15`.
pub(super) struct Narrow;

impl Dot for Narrow {
    /// What was started from, and the products of rows 0 and 1 and of rows 2 and 3.
    type Sum = (int32x4_t, [int16x8_t; 2]);

    #[inline(always)]
    fn start(from: int32x4_t) -> Self::Sum {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        let none = unsafe { vdupq_n_s16(0) };
        (from, [none; 2])
    }

    #[inline(always)]
    fn add<const WORD: usize>(
        (from, [low, high]): Self::Sum,
        weights: int8x16_t,
        activations: int8x16_t,
    ) -> Self::Sum {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            let four = splat::<WORD>(activations);
            let low = vmlal_s8(low, vget_low_s8(weights), vget_low_s8(four));
            (from, [low, vmlal_high_s8(high, weights, four)])
        }
    }

    #[inline(always)]
    fn total((from, [low, high]): Self::Sum) -> int32x4_t {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            vaddq_s32(from, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
        }
    }
}

/// As [`Narrow`], with the products widened as they come: for weights of 8 bits.
pub(super) struct Wide;

impl Dot for Wide {
    type Sum = (int32x4_t, [int32x4_t; 2]);

    #[inline(always)]
    fn start(from: int32x4_t) -> Self::Sum {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        let none = unsafe { vdupq_n_s32(0) };
        (from, [none; 2])
    }

    #[inline(always)]
    fn add<const WORD: usize>(
        (from, [low, high]): Self::Sum,
        weights: int8x16_t,
        activations: int8x16_t,
    ) -> Self::Sum {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            let four = splat::<WORD>(activations);
            let low = vpadalq_s16(low, vmull_s8(vget_low_s8(weights), vget_low_s8(four)));
            (from, [low, vpadalq_s16(high, vmull_high_s8(weights, four))])
        }
    }

    #[inline(always)]
    fn total((from, [low, high]): Self::Sum) -> int32x4_t {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            vaddq_s32(from, vpaddq_s32(low, high))
        }
    }
}

/// Word `WORD % 4` in every lane.
#[inline]
#[target_feature(enable = "neon")]
fn splat<const WORD: usize>(words: int8x16_t) -> int8x16_t {
    let words = vreinterpretq_s32_s8(words);
    vreinterpretq_s8_s32(match WORD % 4 {
        0 => vdupq_laneq_s32::<0>(words),
        1 => vdupq_laneq_s32::<1>(words),
        2 => vdupq_laneq_s32::<2>(words),
        _ => vdupq_laneq_s32::<3>(words),
    })
}
