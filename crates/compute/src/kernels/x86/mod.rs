//! Kernels for x86-64: AVX2 with FMA and F16C, and AVX-512 VNNI.

pub(super) mod attention;
pub(super) mod avx2;
pub(super) mod floats;
pub(super) mod halves;
pub(super) mod roof;
mod stream;
pub(super) mod superblocks;
mod unpacked;
pub(super) mod vnni;

use super::Isa;

/// What this machine runs, from the plainest to the best.
pub(super) fn available() -> &'static [Isa] {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let vnni = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    match (avx2, vnni) {
        (true, true) => &[Isa::Portable, Isa::Avx2, Isa::Avx512Vnni],
        (true, false) => &[Isa::Portable, Isa::Avx2],
        (false, _) => &[Isa::Portable],
    }
}

/// See [`Isa::run`]; `isa` is one that [`available`] named.
#[inline]
pub(super) fn run<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn wide<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    debug_assert_ne!(isa, Isa::Portable);
    // SAFETY: every x86 `Isa` comes from `available`, which saw these features.
    #[allow(unsafe_code)]
    unsafe {
        wide(f)
    }
}
