//! Inner loops of the CPU backend, chosen at run time by instruction set.
//!
//! Every kernel computes an output element by the same sequence of float operations whatever the number of rows it is
//! given, so a token's result does not depend on its batch. The integer kernels ([`panel`], [`superblocks`]) give the same bits on every
//! instruction set; [`floats`] and [`attention`] use fused multiply-add where the machine has it.

pub(crate) mod activations;
#[cfg_attr(target_arch = "wasm32", path = "arena/none.rs")]
pub(crate) mod arena;
#[cfg(target_arch = "aarch64")]
mod arm;
pub(crate) mod attention;
pub(crate) mod blocks;
pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod elementwise;
pub(crate) mod floats;
pub(crate) mod lines;
pub(crate) mod math;
#[cfg(any(
    target_arch = "aarch64",
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod padded;
pub(crate) mod panel;
pub(crate) mod roof;
pub(crate) mod superblocks;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
pub(crate) mod weave;
#[cfg(target_arch = "x86_64")]
mod x86;

/// An instruction set that this build has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain Rust, vectorised by the compiler for the target's baseline.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// As `Avx2`, with AVX-512 F, BW, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// ARM's vectors of 128 bits, which every aarch64 processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// As `Neon`, with dot products of four bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// WebAssembly's vectors of 128 bits.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    /// As `Simd128`, with relaxed dot products of pairs: fast where four at a time take several instructions.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    RelaxedPairs,
    /// As `Simd128`, with relaxed dot products of four elements.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    RelaxedDot,
}

impl Isa {
    /// The best that this machine runs.
    pub(crate) fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this machine runs, from the plainest to the best.
    pub(crate) fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        return x86::available();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return wasm::available();
        #[cfg(target_arch = "aarch64")]
        return arm::available();
        #[cfg(not(any(
            target_arch = "aarch64",
            target_arch = "x86_64",
            all(target_arch = "wasm32", target_feature = "simd128")
        )))]
        &[Self::Portable]
    }

    /// Name in an operator's words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => "NEON dotprod",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => "simd128",
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::RelaxedPairs => "relaxed simd128, pairs",
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::RelaxedDot => "relaxed simd128, dot products",
        }
    }

    /// The one that this machine runs under a [name](Self::name), in any case and with or without its blanks and hyphens.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace([' ', '-', '_', ','], "").to_lowercase();
        Self::available().iter().copied().find(|isa| plain(isa.name()) == plain(name))
    }

    /// Calls `f` where the compiler may use this instruction set; code that is inlined into `f` is vectorised for it.
    #[inline(always)]
    pub(crate) fn run<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            Self::Portable => f(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::Avx512Vnni => x86::run(self, f),
            // NEON is in the target's baseline.
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonDot => f(),
            // What a module was compiled for holds for all of its code.
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            _ => f(),
        }
    }
}
