//! Every instruction set against plain sums in f64.

use super::*;
use crate::kernels::columns::Output;
use crate::kernels::panel::PANEL;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn product<T: Float>(isa: Isa, weights: &[T], columns: usize, width: usize, x: &[f32]) -> Vec<f32> {
    let in_rows = product_in(Order::Rows, isa, weights, columns, x);
    if order::<T>(isa, width) == Order::Interleaved {
        let (groups, of_row) = (weights.as_chunks::<GROUP>().0, width / GROUP);
        let mut turned = vec![[T::zeroed(); GROUP]; PANEL * of_row];
        for (at, group) in groups.iter().enumerate() {
            turned[at % of_row * PANEL + at / of_row] = *group;
        }
        assert_eq!(product_in(Order::Interleaved, isa, turned.as_flattened(), columns, x), in_rows);
    }
    in_rows
}

fn product_in<T: Float>(order: Order, isa: Isa, blocks: &[T], columns: usize, x: &[f32]) -> Vec<f32> {
    let width = blocks.len() / if order == Order::Rows { columns } else { PANEL };
    let mut out = vec![f32::NAN; columns * x.len() / width];
    let output = Output::new(&mut out, columns, None);
    // SAFETY: the only range.
    #[allow(unsafe_code)]
    let mut all = unsafe { output.columns(0..columns) };
    multiply(isa, Panel { blocks, next: &[], order }, width, x, &mut all);
    out
}

fn check<T: Float>(from: impl Fn(f32) -> T) {
    for (columns, width, rows) in [(16, 64, 1), (7, 33, 5), (4, 8, 3), (3, 5, 2), (16, 576, 7), (9, 1304, 29)]
    {
        let weights: Vec<T> = (0..columns * width).map(|i| from((i * 29 % 97) as f32 * 0.02 - 0.9)).collect();
        let x: Vec<f32> = (0..rows * width).map(|i| (i * 31 % 89) as f32 * 0.03 - 1.2).collect();
        for &isa in Isa::available() {
            let found = product(isa, &weights, columns, width, &x);
            for (i, found) in found.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let pairs = weights[column * width..][..width].iter().zip(&x[row * width..][..width]);
                let (mut wanted, mut size) = (0.0, 0.0);
                for (w, x) in pairs {
                    let product = f64::from(w.widen()) * f64::from(*x);
                    wanted += product;
                    size += product.abs();
                }
                let error = (f64::from(*found) - wanted).abs();
                assert!(error <= size * 1e-6, "{} [{row}, {column}]: {found} for {wanted}", isa.name());
            }
            for row in 0..rows {
                let alone = product(isa, &weights, columns, width, &x[row * width..][..width]);
                assert_eq!(alone, found[row * columns..][..columns], "{} row {row}", isa.name());
            }
        }
    }
}

#[test]
fn f32_weights() {
    check(|x| x);
}

#[test]
fn f16_weights() {
    check(f16::from_f32);
}

#[test]
fn bf16_weights() {
    check(bf16::from_f32);
}
