//! Every type, tile, epilogue and variant.

use reprise_gguf::GgmlDType;

use super::bench::{Product, device, error, variants};
use super::{Epilogue, Variant};
use crate::weights::TYPES;

/// Largest error of a variant: f32 differs in the order of additions only, f16 rounds activations and sums of 16 products to
/// 11 bits, integers round activations to 8 bits of the largest of 32.
fn tolerance(variant: Variant) -> f64 {
    match variant {
        Variant { dot4: true, .. } => 3e-2,
        Variant { f16: true, .. } => 1e-2,
        _ => 1e-5,
    }
}

fn check(product: &Product) {
    check_in(product, &variants());
}

fn check_in(product: &Product, variants: &[Variant]) {
    let expected = product.expected();
    for &variant in variants {
        let worst = error(&product.compute(device(), variant), &expected);
        let shape = product.weights.iter().map(|w| (w.dtype, w.rows)).collect::<Vec<_>>();
        // A gated activation multiplies two products.
        let factors = if product.epilogue.is_gate() { 2.0 } else { 1.0 };
        assert!(
            worst <= factors * tolerance(variant),
            "{shape:?} {:?}, {} wide, {} rows, {variant:?}: off by {worst:.1e}",
            product.epilogue,
            product.cols(),
            product.rows(),
        );
    }
}

#[test]
fn every_type_for_one_row_and_for_many() {
    let variants: Vec<_> = variants().into_iter().filter(|variant| variant.subgroup == 0).collect();
    for dtype in TYPES {
        for rows in [1, 11] {
            let cols = 3 * dtype.block_size().max(32);
            check_in(&Product::new(&[(dtype, 37)], cols, rows, Epilogue::Store), &variants);
        }
    }
}

#[test]
fn every_tile() {
    for rows in [1, 2, 3, 11] {
        check(&Product::new(&[(GgmlDType::Q4_0, 37)], 320, rows, Epilogue::Store));
    }
}

#[test]
fn widths_of_real_models() {
    // 1024 and 4096 outputs change how many an invocation has; 576 columns are no whole number of chunks.
    let plain = [Variant::default()];
    check_in(&Product::new(&[(GgmlDType::Q4_1, 1200)], 576, 1, Epilogue::Store), &plain);
    check_in(&Product::new(&[(GgmlDType::Q4_0, 4200)], 64, 2, Epilogue::Store), &plain);
    check_in(&Product::new(&[(GgmlDType::Q4K, 300)], 1536, 20, Epilogue::Store), &plain);
}

#[test]
fn rows_of_floats_that_fill_no_quad() {
    for dtype in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16] {
        for cols in [1, 45, 290] {
            check(&Product::new(&[(dtype, 7)], cols, 5, Epilogue::Store).with_norm().with_biases());
        }
    }
}

#[test]
fn projections_of_several_types_with_norm_and_biases() {
    let qkv = [(GgmlDType::Q4K, 130), (GgmlDType::Q4K, 40), (GgmlDType::Q6K, 40)];
    let floats = [(GgmlDType::F16, 20), (GgmlDType::Q8_0, 20), (GgmlDType::F32, 20), (GgmlDType::BF16, 1)];
    for rows in [1, 9] {
        check(&Product::new(&qkv, 512, rows, Epilogue::Store));
        check(&Product::new(&qkv, 512, rows, Epilogue::Store).with_norm().with_biases());
        check(&Product::new(&floats, 96, rows, Epilogue::Store).with_norm().with_biases());
        check(&Product::new(&[(GgmlDType::Q5_0, 9); 7], 64, rows, Epilogue::Add).with_biases());
    }
}

#[test]
fn gated_activations_and_residuals() {
    for epilogue in [Epilogue::Silu, Epilogue::Gelu] {
        for rows in [1, 7] {
            let pair = [(GgmlDType::Q4_1, 70), (GgmlDType::Q5_1, 70)];
            check(&Product::new(&pair, 96, rows, epilogue).with_norm());
            check(&Product::new(&[(GgmlDType::BF16, 9); 2], 40, rows, epilogue).with_biases());
        }
    }
    for rows in [3, 16] {
        check(&Product::new(&[(GgmlDType::Q8_0, 70)], 160, rows, Epilogue::Add));
        check(&Product::new(&[(GgmlDType::Q6K, 70)], 256, rows, Epilogue::Add).with_norm().with_biases());
    }
}

#[test]
fn activations_of_any_size() {
    // Far beyond what f16 holds, and all zero.
    for size in [1e6, 0.0] {
        let mut product = Product::new(&[(GgmlDType::Q4_1, 20)], 64, 2, Epilogue::Store).with_biases();
        product.x.iter_mut().for_each(|x| *x *= size);
        check(&product);
        check(&product.with_norm());
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for dtype in [GgmlDType::Q4_1, GgmlDType::F16] {
        let cols = 3 * dtype.block_size().max(96);
        let product = Product::new(&[(dtype, 50)], cols, 9, Epilogue::Store).with_norm().with_biases();
        for variant in variants() {
            let together = product.compute(device(), variant);
            let mut apart = Vec::new();
            let mut left = &product.x[..];
            // Tiles of every height meet the same rows.
            for rows in [1, 2, 1, 3, 2] {
                let (x, rest) = left.split_at(rows * cols);
                left = rest;
                apart.extend(Product { x: x.to_vec(), ..product.clone() }.compute(device(), variant));
            }
            assert_eq!(together, apart, "{dtype:?}, {variant:?}");
        }
    }
}

#[test]
fn subgroups_change_no_bit() {
    let product = Product::new(&[(GgmlDType::Q4_0, 50)], 800, 6, Epilogue::Store).with_norm();
    let plain = product.compute(device(), Variant::default());
    for variant in variants().into_iter().filter(|variant| !variant.dot4 && !variant.f16) {
        assert_eq!(product.compute(device(), variant), plain, "{variant:?}");
    }
}

#[test]
fn integers_are_multiplied_exactly() {
    if !device().features.dot4 {
        return;
    }
    for dtype in TYPES.into_iter().filter(|dtype| dtype.block_size() > 1) {
        let mut product = Product::new(&[(dtype, 21)], 512, 2, Epilogue::Store).with_biases();
        // Activations that lose nothing to 8 bits: whole steps, the largest 127 of them.
        for group in product.x.chunks_exact_mut(32) {
            group.iter_mut().for_each(|x| *x = (*x * 126.0).round() / 64.0);
            group[5] = -127.0 / 64.0;
        }
        let found = product.compute(device(), Variant { dot4: true, ..Variant::default() });
        let worst = error(&found, &product.expected());
        assert!(worst <= 1e-5, "{dtype:?}: off by {worst:.1e}");
    }
}
