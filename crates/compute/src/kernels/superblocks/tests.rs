//! The formats against candle's, and every instruction set against the portable kernel, by equality.

use candle_core::quantized::{GgmlType, k_quants};
use half::f16;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::activations::quantize;
use super::formats::{Q2K, Q3K, Q4K, Q5K, Q6K, SUPERBLOCK};
use super::*;
use crate::kernels::columns::Output;
use crate::kernels::panel::PANEL;
use crate::kernels::weave::weave;

/// Bytes without a pattern, the same on every run.
fn noise(len: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Where a format keeps its factors.
trait Factors: SuperBlock {
    const AT: &'static [usize];
}

macro_rules! factors {
    ($($format:ty: $at:expr),*) => {$(impl Factors for $format { const AT: &'static [usize] = &$at; })*};
}
factors!(Q2K: [80, 82], Q3K: [108], Q4K: [0, 2], Q5K: [0, 2], Q6K: [208]);

/// Random blocks with factors of a trained model's size.
fn weights<B: Factors>(count: usize, seed: u32) -> Vec<B> {
    let mut bytes = noise(count * size_of::<B>(), seed);
    for (i, block) in bytes.chunks_exact_mut(size_of::<B>()).enumerate() {
        for (nth, &at) in B::AT.iter().enumerate() {
            let factor = f16::from_f32(0.003 + (i % 13) as f32 * 0.001 + nth as f32 * 0.002);
            block[at..at + 2].copy_from_slice(&factor.to_le_bytes());
        }
    }
    bytemuck::cast_slice(&bytes).to_vec()
}

fn activations(rows: usize, width: usize) -> Q8KRows {
    let x: Vec<f32> = noise(rows * width, 7).iter().map(|&b| (f32::from(b) - 120.0) * 0.037).collect();
    let mut q8k = Q8KRows::default();
    quantize(Isa::Portable, &x, q8k.resize(rows, width));
    q8k
}

fn product<B: SuperBlock>(isa: Isa, weights: &[B], columns: usize, x: &Q8KRows) -> Vec<f32> {
    let in_rows = product_in(Order::Rows, isa, weights, columns, x);
    // The wasm kernels never see the other order.
    #[cfg(not(target_arch = "wasm32"))]
    for order in [Order::Interleaved, order::<B>(isa)] {
        assert_eq!(in_rows, product_in(order, isa, weights, columns, x), "{order:?}, {}", isa.name());
    }
    in_rows
}

fn product_in<B: SuperBlock>(order: Order, isa: Isa, weights: &[B], columns: usize, x: &Q8KRows) -> Vec<f32> {
    let mut out = vec![f32::NAN; columns * x.rows()];
    let output = Output::new(&mut out, columns, None);
    for first in (0..columns).step_by(PANEL) {
        let end = columns.min(first + PANEL);
        // SAFETY: the ranges are disjoint.
        #[allow(unsafe_code)]
        let mut part = unsafe { output.columns(first..end) };
        let (blocks, next) = weights[first * x.blocks()..].split_at((end - first) * x.blocks());
        if order == Order::Rows {
            multiply(isa, Panel { blocks, next, order }, x, &mut part);
            continue;
        }
        let mut turned = vec![B::zeroed(); PANEL * x.blocks()];
        for (at, block) in blocks.iter().enumerate() {
            let (index, row) = (at % x.blocks() * PANEL, at / x.blocks());
            if order == Order::Woven {
                weave(block, row, &mut turned[index..index + PANEL]);
            } else {
                turned[index + row] = *block;
            }
        }
        multiply(isa, Panel { blocks: &turned, next: &[], order }, x, &mut part);
    }
    out
}

fn candle_blocks<C: GgmlType>(bytes: &[u8]) -> Vec<C> {
    let mut blocks = vec![C::zeros(); bytes.len() / size_of::<C>()];
    // SAFETY: candle's blocks are `repr(C)` integers without padding, and the lengths agree.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast(), bytes.len());
    }
    blocks
}

fn agrees<B: Factors, C: GgmlType<VecDotType = k_quants::BlockQ8K>>() {
    let shapes = [(16, 512, 1), (37, 256, 9), (16, 1536, 13), (1, 256, 3), (50, 512, 4), (33, 2048, 2)];
    // Kernels have a way of their own for each number of rows up to 8.
    let few = (5..=8).map(|rows| (16 + rows, 768, rows));
    for (columns, width, rows) in shapes.into_iter().chain(few) {
        let blocks = width / SUPERBLOCK;
        let weights = weights::<B>(columns * blocks, columns as u32);
        let x = activations(rows, width);
        let wanted = product(Isa::Portable, &weights, columns, &x);
        for &isa in Isa::available() {
            let found = product(isa, &weights, columns, &x);
            assert_eq!(found, wanted, "{} {columns} x {width}, {rows} rows", isa.name());
        }
        let candle_weights = candle_blocks::<C>(bytemuck::cast_slice(&weights));
        let candle_x = candle_blocks::<k_quants::BlockQ8K>(bytemuck::cast_slice(x.as_slice()));
        for row in 0..rows {
            for column in 0..columns {
                let weights = &candle_weights[column * blocks..][..blocks];
                let theirs = C::vec_dot_unopt(width, weights, &candle_x[row * blocks..][..blocks]);
                let ours = wanted[row * columns + column];
                assert!((ours - theirs).abs() <= 2e-5 * theirs.abs().max(100.0), "{ours} for {theirs}");
            }
        }
    }
    let blocks = weights::<B>(5, 11);
    let mut wanted = vec![0f32; 5 * SUPERBLOCK];
    C::to_float(&candle_blocks::<C>(bytemuck::cast_slice(&blocks)), &mut wanted);
    for (block, wanted) in blocks.iter().zip(wanted.as_chunks::<SUPERBLOCK>().0) {
        let mut found = [0f32; SUPERBLOCK];
        block.dequantize(&mut found);
        assert_eq!(found, *wanted);
    }
}

#[test]
fn q2_k_agrees_with_candle() {
    agrees::<Q2K, k_quants::BlockQ2K>();
}

#[test]
fn q3_k_agrees_with_candle() {
    agrees::<Q3K, k_quants::BlockQ3K>();
}

#[test]
fn q4_k_agrees_with_candle() {
    agrees::<Q4K, k_quants::BlockQ4K>();
}

#[test]
fn q5_k_agrees_with_candle() {
    agrees::<Q5K, k_quants::BlockQ5K>();
}

#[test]
fn q6_k_agrees_with_candle() {
    agrees::<Q6K, k_quants::BlockQ6K>();
}

#[test]
fn extreme_quants_do_not_overflow() {
    // The largest unsigned quants and scales against the largest activations of one sign.
    fn extremes<B: Factors>(fill: u8) {
        let mut bytes = vec![fill; 16 * 2 * size_of::<B>()];
        for block in bytes.chunks_exact_mut(size_of::<B>()) {
            for &at in B::AT {
                block[at..at + 2].copy_from_slice(&f16::ONE.to_le_bytes());
            }
        }
        let weights: Vec<B> = bytemuck::cast_slice(&bytes).to_vec();
        for sign in [1.0, -1.0] {
            let mut x = Q8KRows::default();
            quantize(Isa::Portable, &[127.0 * sign; 9 * 512], x.resize(9, 512));
            let wanted = product(Isa::Portable, &weights, 16, &x);
            for &isa in Isa::available() {
                assert_eq!(product(isa, &weights, 16, &x), wanted, "{} {fill:#x}", isa.name());
            }
        }
    }
    for fill in [0xff, 0x00, 0x80, 0x7f] {
        extremes::<Q2K>(fill);
        extremes::<Q3K>(fill);
        extremes::<Q4K>(fill);
        extremes::<Q5K>(fill);
        extremes::<Q6K>(fill);
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let all = activations(23, 768);
    let weights = weights::<Q4K>(16 * 3, 3);
    for &isa in Isa::available() {
        let together = product(isa, &weights, 16, &all);
        for row in 0..23 {
            let mut alone = Q8KRows::default();
            alone.resize(1, 768).copy_from_slice(&all.as_slice()[row * 3..][..3]);
            let alone = product(isa, &weights, 16, &alone);
            assert_eq!(alone, together[row * 16..][..16], "{} {row}", isa.name());
        }
    }
}

#[test]
fn the_largest_element_becomes_minus_127_and_nothing_breaks_it() {
    let mut x = [0f32; SUPERBLOCK];
    (x[3], x[200], x[201]) = (-2.0, 1.0, 2.0);
    let mut q8k = Q8KRows::default();
    for isa in [Isa::Portable, Isa::detect()] {
        quantize(isa, &x, q8k.resize(1, SUPERBLOCK));
        let block = &q8k.as_slice()[0];
        assert_eq!((block.quants[3], block.quants[200], block.quants[201]), (-127, 64, 127));
        assert!((block.scale * -127.0 + 2.0).abs() < 1e-6);
        assert_eq!((block.sums[0], block.sums[12]), (-127, 191));
        for fill in [0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            quantize(isa, &[fill; SUPERBLOCK], q8k.resize(1, SUPERBLOCK));
        }
        quantize(isa, &[0.0; SUPERBLOCK], q8k.resize(1, SUPERBLOCK));
        assert_eq!(q8k.as_slice()[0], Q8K::zeroed());
    }
}
