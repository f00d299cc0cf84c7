//! The samplers against what llama.cpp b11434 (GNU C++ library, x86-64) answered to the same input.

mod chain;
mod order;
mod reach;
mod sampler;
mod server;
mod wire;

/// The finalizer of SplitMix64 over its sequence: the numbers that the recordings were made with.
fn noise(index: u64) -> u64 {
    let mixed = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
