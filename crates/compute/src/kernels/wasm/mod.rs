//! Kernels for wasm32: 128-bit vectors, and the relaxed dot products where the module was compiled with them.
//!
//! A module cannot ask what its engine has, so each instruction set is a module of its own and the host picks one. What
//! relaxed instructions *become* can be asked, because they show it in results that the specification leaves open.

pub(super) mod attention;
mod dot;
pub(super) mod floats;
mod halves;
pub(super) mod panel;
pub(super) mod superblocks;

use std::arch::wasm32::*;

use super::Isa;

/// Floats of a vector.
const LANES: usize = 4;

/// What this module was compiled for, from the plainest to the best.
pub(super) fn available() -> &'static [Isa] {
    #[cfg(not(target_feature = "relaxed-simd"))]
    return &[Isa::Portable, Isa::Simd128];
    #[cfg(target_feature = "relaxed-simd")]
    if dot::adds_pairs_in_16_bits() {
        &[Isa::Portable, Isa::Simd128, Isa::RelaxedDot, Isa::RelaxedPairs]
    } else {
        &[Isa::Portable, Isa::Simd128, Isa::RelaxedPairs, Isa::RelaxedDot]
    }
}

#[inline(always)]
fn load(from: &[f32; LANES]) -> v128 {
    load_bytes(bytemuck::cast_ref(from))
}

#[inline(always)]
fn load_bytes(from: &[u8; 16]) -> v128 {
    // SAFETY: the array is a vector long; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        v128_load(from.as_ptr().cast())
    }
}

/// Four 16-bit numbers, each the low half of a 32-bit lane.
#[inline(always)]
fn load_halves(from: &[u8; 8]) -> v128 {
    // SAFETY: the array has the eight bytes that are read; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        u32x4_load_extend_u16x4(from.as_ptr().cast())
    }
}

#[inline(always)]
fn store(to: &mut [f32; LANES], vector: v128) {
    // SAFETY: the array is a vector long; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        v128_store(to.as_mut_ptr().cast(), vector);
    }
}

/// `a * b + c`, rounded once where relaxed instructions exist and the engine has a fused one.
#[inline(always)]
fn mul_add(a: v128, b: v128, c: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    return f32x4_relaxed_madd(a, b, c);
    #[cfg(not(target_feature = "relaxed-simd"))]
    f32x4_add(f32x4_mul(a, b), c)
}
