//! Dot products of four rows at a time: lane `l` of a vector holds four bytes of row `l`.
//!
//! The relaxed instructions multiply signed bytes with bytes of 7 bits and leave open what happens beyond; with the
//! weights (at most 31) as the second operand every engine gives the same exact sums.

use std::arch::wasm32::*;

/// A way to multiply four elements of four weight rows with the same four of an activation row, summed over a block.
pub(super) trait Dot {
    /// Weights made ready.
    type Weights: Copy;
    /// Activations made ready.
    type Activations: Copy;
    /// A sum in the making.
    type Sum: Copy;

    /// No element added.
    fn zero() -> Self::Sum;
    /// Prepares unsigned bytes, four of each row.
    fn weights(bytes: v128) -> Self::Weights;
    /// Prepares signed bytes, the same four in each lane.
    fn activations(bytes: v128) -> Self::Activations;
    /// Adds the products of word `word` of a block (elements `4 * word..4 * word + 4`).
    fn add(sum: Self::Sum, word: usize, weights: Self::Weights, activations: Self::Activations) -> Self::Sum;
    /// The sum of each row, `i32x4`.
    fn total(sum: Self::Sum) -> v128;

    /// The sum of each row times its factor, which stands twice in the lane's 16-bit halves. At most four words were added.
    #[inline(always)]
    fn scaled(sum: Self::Sum, factors: v128) -> v128 {
        i32x4_mul(Self::total(sum), i32x4_shr(factors, 16))
    }
}

/// Plain vectors: even and odd bytes widened to 16 bits. Weights of 8 bits.
pub(super) struct Wide;

impl Dot for Wide {
    type Weights = [v128; 2];
    type Activations = [v128; 2];
    type Sum = v128;

    #[inline(always)]
    fn zero() -> v128 {
        i32x4_splat(0)
    }

    #[inline(always)]
    fn weights(bytes: v128) -> [v128; 2] {
        [v128_and(bytes, i16x8_splat(0xff)), u16x8_shr(bytes, 8)]
    }

    #[inline(always)]
    fn activations(bytes: v128) -> [v128; 2] {
        [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)]
    }

    #[inline(always)]
    fn add(sum: v128, _: usize, weights: [v128; 2], activations: [v128; 2]) -> v128 {
        let even = i32x4_dot_i16x8(weights[0], activations[0]);
        let odd = i32x4_dot_i16x8(weights[1], activations[1]);
        i32x4_add(i32x4_add(sum, even), odd)
    }

    #[inline(always)]
    fn total(sum: v128) -> v128 {
        sum
    }
}

/// Pairs of products added in 16 bits, `GROUP` words before they are widened. What `vpmaddubsw` does in one instruction.
#[cfg(target_feature = "relaxed-simd")]
pub(super) struct Pairs<const GROUP: usize>;

/// Words of which 4-bit weights can be added in 16 bits: `2 * 15 * 127 * 8 < 2^15`.
#[cfg(target_feature = "relaxed-simd")]
pub(super) type Pairs4Bit = Pairs<8>;
/// The same for 5-bit weights: `2 * 31 * 127 * 4 < 2^15`.
#[cfg(target_feature = "relaxed-simd")]
pub(super) type Pairs5Bit = Pairs<4>;

#[cfg(target_feature = "relaxed-simd")]
impl<const GROUP: usize> Dot for Pairs<GROUP> {
    type Weights = v128;
    type Activations = v128;
    /// Widened sums, and the pairs of the group in work.
    type Sum = [v128; 2];

    #[inline(always)]
    fn zero() -> [v128; 2] {
        [i32x4_splat(0); 2]
    }

    #[inline(always)]
    fn weights(bytes: v128) -> v128 {
        bytes
    }

    #[inline(always)]
    fn activations(bytes: v128) -> v128 {
        bytes
    }

    #[inline(always)]
    fn add([mut wide, pairs]: [v128; 2], word: usize, weights: v128, activations: v128) -> [v128; 2] {
        let products = i16x8_relaxed_dot_i8x16_i7x16(activations, weights);
        if word % GROUP != 0 {
            return [wide, i16x8_add(pairs, products)];
        }
        // A group begins. (The compiler crashes when it may widen a constant zero, hence no sum from nothing.)
        if word != 0 {
            wide = Self::total([wide, pairs]);
        }
        [wide, products]
    }

    #[inline(always)]
    fn total([wide, pairs]: [v128; 2]) -> v128 {
        i32x4_add(wide, i32x4_dot_i16x8(pairs, i16x8_splat(1)))
    }

    #[inline(always)]
    fn scaled([wide, pairs]: [v128; 2], factors: v128) -> v128 {
        if GROUP >= 4 {
            return i32x4_dot_i16x8(pairs, factors);
        }
        i32x4_mul(Self::total([wide, pairs]), i32x4_shr(factors, 16))
    }
}

/// Four products added to a lane at once. What `sdot` and VEX `vpdpbusd` do in one instruction.
#[cfg(target_feature = "relaxed-simd")]
pub(super) struct Quads;

#[cfg(target_feature = "relaxed-simd")]
impl Dot for Quads {
    type Weights = v128;
    type Activations = v128;
    type Sum = v128;

    #[inline(always)]
    fn zero() -> v128 {
        i32x4_splat(0)
    }

    #[inline(always)]
    fn weights(bytes: v128) -> v128 {
        bytes
    }

    #[inline(always)]
    fn activations(bytes: v128) -> v128 {
        bytes
    }

    #[inline(always)]
    fn add(sum: v128, _: usize, weights: v128, activations: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(activations, weights, sum)
    }

    #[inline(always)]
    fn total(sum: v128) -> v128 {
        sum
    }
}

/// As [`Quads`], for weights of 8 bits: their halves of 4 bits are multiplied on their own.
#[cfg(target_feature = "relaxed-simd")]
pub(super) struct SplitQuads;

#[cfg(target_feature = "relaxed-simd")]
impl Dot for SplitQuads {
    type Weights = [v128; 2];
    type Activations = v128;
    type Sum = [v128; 2];

    #[inline(always)]
    fn zero() -> [v128; 2] {
        [i32x4_splat(0); 2]
    }

    #[inline(always)]
    fn weights(bytes: v128) -> [v128; 2] {
        let low = u8x16_splat(0xf);
        [v128_and(bytes, low), v128_and(u16x8_shr(bytes, 4), low)]
    }

    #[inline(always)]
    fn activations(bytes: v128) -> v128 {
        bytes
    }

    #[inline(always)]
    fn add(sum: [v128; 2], _: usize, weights: [v128; 2], activations: v128) -> [v128; 2] {
        [
            i32x4_relaxed_dot_i8x16_i7x16_add(activations, weights[0], sum[0]),
            i32x4_relaxed_dot_i8x16_i7x16_add(activations, weights[1], sum[1]),
        ]
    }

    #[inline(always)]
    fn total([low, high]: [v128; 2]) -> v128 {
        i32x4_add(low, i32x4_shl(high, 4))
    }
}

/// Whether the relaxed dot product adds pairs of products in 16 bits: on x86 without VNNI, where the four-element form
/// takes five instructions. Bytes beyond 7 bits tell: `-128 * 255 * 2` saturates at 16 bits there and nowhere else.
#[cfg(target_feature = "relaxed-simd")]
pub(super) fn adds_pairs_in_16_bits() -> bool {
    // Out of the optimiser's sight, which might have an opinion on what is left open.
    let [least, ones] = std::hint::black_box([i8x16_splat(i8::MIN), u8x16_splat(u8::MAX)]);
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add(least, ones, i32x4_splat(0));
    i32x4_extract_lane::<0>(sums) == 2 * i32::from(i16::MIN)
}
