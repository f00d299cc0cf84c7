//! As many multiply-adds as the processor's pipes take.

use std::arch::x86_64::*;
use std::hint::black_box;

use crate::kernels::Isa;
use crate::kernels::roof::TURN;

/// Sums that do not wait for each other: more than an instruction's latency times what begins in a cycle.
const SUMS: usize = 12;

/// `turns` times [`TURN`] products on an instruction set of this machine; `None` where no kernel is written for it.
pub(in crate::kernels) fn turns(isa: Isa, turns: usize) -> Option<i32> {
    let factors = black_box(0x0102_0304);
    match isa {
        Isa::Portable => None,
        Isa::Avx2 => Some(avx2(factors, turns)),
        Isa::Avx512Vnni => Some(vnni(factors, turns)),
    }
}

fn vnni(factors: i32, turns: usize) -> i32 {
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn wide(factors: i32, turns: usize) -> i32 {
        const PRODUCTS: usize = 64;
        let factors = _mm512_set1_epi32(factors);
        // Different, or the compiler would find one sum enough.
        let mut sums: [__m512i; SUMS] = std::array::from_fn(|i| _mm512_set1_epi32(i as i32));
        for _ in 0..turns * (TURN / PRODUCTS / SUMS) {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, factors, factors);
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ _mm512_reduce_add_epi32(sum))
    }
    // SAFETY: `Isa::Avx512Vnni` comes from `available`, which saw these features.
    #[allow(unsafe_code)]
    unsafe {
        wide(factors, turns)
    }
}

/// Products of pairs, added in 16 bits.
fn avx2(factors: i32, turns: usize) -> i32 {
    #[target_feature(enable = "avx2")]
    fn wide(factors: i32, turns: usize) -> i32 {
        const PRODUCTS: usize = 32;
        let factors = _mm256_set1_epi32(factors);
        let mut sums: [__m256i; SUMS] = std::array::from_fn(|i| _mm256_set1_epi32(i as i32));
        for _ in 0..turns * (TURN / PRODUCTS / SUMS) {
            for sum in &mut sums {
                // A product of two constants would be taken out of the loop.
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(*sum, factors));
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ _mm256_extract_epi32::<0>(sum))
    }
    // SAFETY: `Isa::Avx2` comes from `available`, which saw this feature.
    #[allow(unsafe_code)]
    unsafe {
        wide(factors, turns)
    }
}
