//! Every instruction set against candle's scalar dot product, by equality.

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants;
use half::f16;

use super::*;
use crate::kernels::activations::quantize;
use crate::kernels::blocks::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::kernels::columns::Output;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Bytes without a pattern, the same on every run.
fn noise(len: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Blocks with random quants and scales (and minima) of a trained model's size.
fn weights<B: Block32>(count: usize, seed: u32) -> Vec<B> {
    let mut bytes = noise(count * size_of::<B>(), seed);
    for (i, block) in bytes.chunks_exact_mut(size_of::<B>()).enumerate() {
        let scale = f16::from_f32(0.01 + (i % 13) as f32 * 0.003);
        block[..2].copy_from_slice(&scale.to_le_bytes());
        if B::HAS_MIN {
            let min = f16::from_f32((i % 7) as f32 * 0.05 - 0.2);
            block[2..4].copy_from_slice(&min.to_le_bytes());
        }
    }
    bytemuck::cast_slice(&bytes).to_vec()
}

fn activations(rows: usize, width: usize) -> Q8Rows {
    let x: Vec<f32> = noise(rows * width, 7).iter().map(|&b| (f32::from(b) - 120.0) * 0.037).collect();
    let mut q8 = Q8Rows::default();
    let (quants, scales) = q8.resize(rows, width);
    quantize(Isa::Portable, &x, quants, scales);
    q8
}

fn product<B: Block32>(isa: Isa, weights: &[B], columns: usize, x: &Q8Rows) -> Vec<f32> {
    let in_rows = product_in(Order::Rows, isa, weights, columns, x);
    // The wasm kernels never see the other order.
    #[cfg(not(target_arch = "wasm32"))]
    assert_eq!(in_rows, product_in(Order::Interleaved, isa, weights, columns, x), "{}", isa.name());
    in_rows
}

fn product_in<B: Block32>(order: Order, isa: Isa, weights: &[B], columns: usize, x: &Q8Rows) -> Vec<f32> {
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
            turned[at % x.blocks() * PANEL + at / x.blocks()] = *block;
        }
        multiply(isa, Panel { blocks: &turned, next: &[], order }, x, &mut part);
    }
    out
}

/// The activations of one row as candle's blocks of `A`, whose bytes are the scale, the sum if any, and the quants.
fn candle_activations<A: GgmlType>(x: &Q8Rows, row: usize) -> Vec<A> {
    let blocks = x.blocks();
    let mut bytes = Vec::new();
    for index in row * blocks..(row + 1) * blocks {
        let by = &x.scales()[index];
        bytes.extend(f16::from_f32(by.scale).to_le_bytes());
        if size_of::<A>() == 36 {
            bytes.extend(f16::from_f32(by.sum).to_le_bytes());
        }
        bytes.extend(x.quants()[index * BLOCK..][..BLOCK].iter().map(|q| q.cast_unsigned()));
    }
    cast(&bytes)
}

fn cast<T: GgmlType>(bytes: &[u8]) -> Vec<T> {
    let mut blocks = vec![T::zeros(); bytes.len() / size_of::<T>()];
    // SAFETY: candle's blocks are `repr(C)` integers without padding, and the lengths agree.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast(), bytes.len());
    }
    blocks
}

fn agrees_with_candle<B: Block32, C: GgmlType>() {
    let shapes = [(16, 576, 1), (37, 64, 9), (16, 1536, 13), (1, 32, 3), (50, 96, 4), (33, 2048, 2)];
    // Kernels have a way of their own for each number of rows up to 8.
    let few = (5..=8).map(|rows| (16 + rows, 160, rows));
    for (columns, width, rows) in shapes.into_iter().chain(few) {
        let blocks = width / BLOCK;
        let weights = weights::<B>(columns * blocks, columns as u32);
        let x = activations(rows, width);
        let candle_weights = cast::<C>(bytemuck::cast_slice(&weights));
        let mut wanted = Vec::new();
        for row in 0..rows {
            let candle_x = candle_activations::<C::VecDotType>(&x, row);
            for column in 0..columns {
                let weights = &candle_weights[column * blocks..(column + 1) * blocks];
                wanted.push(C::vec_dot_unopt(width, weights, &candle_x));
            }
        }
        for &isa in Isa::available() {
            let found = product(isa, &weights, columns, &x);
            assert_eq!(found, wanted, "{} {columns} x {width}, {rows} rows", isa.name());
        }
    }
}

#[test]
fn q4_0_agrees_with_candle() {
    agrees_with_candle::<Q4_0, k_quants::BlockQ4_0>();
}

#[test]
fn q4_1_agrees_with_candle() {
    agrees_with_candle::<Q4_1, k_quants::BlockQ4_1>();
}

#[test]
fn q5_0_agrees_with_candle() {
    agrees_with_candle::<Q5_0, k_quants::BlockQ5_0>();
}

#[test]
fn q5_1_agrees_with_candle() {
    agrees_with_candle::<Q5_1, k_quants::BlockQ5_1>();
}

#[test]
fn q8_0_agrees_with_candle() {
    agrees_with_candle::<Q8_0, k_quants::BlockQ8_0>();
}

#[test]
fn extreme_quants_do_not_overflow() {
    // The largest unsigned quants against the largest activations of one sign.
    fn extremes<B: Block32>(fill: u8) {
        let mut bytes = vec![fill; 16 * 4 * size_of::<B>()];
        for block in bytes.chunks_exact_mut(size_of::<B>()) {
            block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
            if B::HAS_MIN {
                block[2..4].copy_from_slice(&f16::ZERO.to_le_bytes());
            }
        }
        let weights: Vec<B> = bytemuck::cast_slice(&bytes).to_vec();
        for sign in [1.0, -1.0] {
            let mut x = Q8Rows::default();
            let (quants, scales) = x.resize(6, 128);
            quantize(Isa::Portable, &[127.0 * sign; 6 * 128], quants, scales);
            let wanted = product(Isa::Portable, &weights, 16, &x);
            for &isa in Isa::available() {
                assert_eq!(product(isa, &weights, 16, &x), wanted, "{} {fill:#x}", isa.name());
            }
        }
    }
    for fill in [0xff, 0x00, 0x80, 0x7f] {
        extremes::<Q4_0>(fill);
        extremes::<Q4_1>(fill);
        extremes::<Q5_0>(fill);
        extremes::<Q5_1>(fill);
        extremes::<Q8_0>(fill);
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let all = activations(23, 576);
    let weights = weights::<Q4_1>(16 * 18, 3);
    for &isa in Isa::available() {
        let together = product(isa, &weights, 16, &all);
        for row in 0..23 {
            let mut alone = Q8Rows::default();
            let (quants, scales) = alone.resize(1, 576);
            quants.copy_from_slice(&all.quants()[row * 576..][..576]);
            scales.copy_from_slice(&all.scales()[row * 18..][..18]);
            assert_eq!(
                product(isa, &weights, 16, &alone),
                together[row * 16..][..16],
                "{} {row}",
                isa.name()
            );
        }
    }
}
