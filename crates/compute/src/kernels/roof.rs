//! The most that a machine does: multiply-adds of 8-bit integers that wait for nothing, and memory read in a stream.
//!
//! Benchmarks hold the other kernels against these. They use the instructions that the panels use.

use std::hint::black_box;

use super::Isa;

/// Multiply-adds of a turn of [`turns`], on every instruction set a divisor of the same number.
pub(crate) const TURN: usize = 3072;

/// Does `turns` times [`TURN`] multiply-adds of bytes to 32 bits (on AVX2 to 16, as its panels begin).
pub(crate) fn turns(isa: Isa, turns: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = super::x86::roof::turns(isa, turns) {
        black_box(sum);
        return;
    }
    black_box(plain(isa, turns));
}

/// What the compiler makes of it.
fn plain(isa: Isa, turns: usize) -> i32 {
    const WIDTH: usize = 64;
    let (left, right) = ([3i8; WIDTH], [-5i8; WIDTH]);
    let mut sums = [0i32; WIDTH];
    isa.run(|| {
        for _ in 0..turns * TURN / WIDTH {
            let (left, right) = (black_box(&left), black_box(&right));
            for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
                *sum = sum.wrapping_add(i32::from(*left) * i32::from(*right));
            }
        }
    });
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// Reads every whole cache line of `bytes` once, in address order.
pub(crate) fn read(isa: Isa, bytes: &[u8]) {
    /// Words of four cache lines, a register of 256 bits for every fourth.
    const WORDS: usize = 32;
    let mut sums = [0u64; WORDS];
    isa.run(|| {
        for words in bytemuck::cast_slice::<u8, [u64; WORDS]>(bytes) {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
    });
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_of_this_machine_multiplies_and_reads() {
        for &isa in Isa::available() {
            turns(isa, 3);
            read(isa, bytemuck::cast_slice(&[[1u64; 32]; 5]));
        }
        // 64 sums of as many products as a turn has for each.
        assert_eq!(plain(Isa::Portable, 2), -15 * 2 * TURN as i32);
    }
}
