//! KV cells moved, rotated, exported and imported go on as if they had been computed where they are.

mod common;

use common::{ARCHITECTURES, Tiny, blocks, cell, difference, evaluate, head_dim, prompt};
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cell, CellRun, Cpu, KvShape};
use reprise_gguf::{GgmlDType, Value};
use reprise_model::{CellShift, Forward, ModelError};

const BLOCK: u32 = BLOCK_TOKENS as u32;

#[test]
fn an_imported_block_continues_bit_by_bit() {
    for architecture in ARCHITECTURES {
        let mut model = Tiny::new(architecture, GgmlDType::Q8_0, 3).load(Cpu::new(2));
        let tokens = prompt(46, 1);
        let (past, next) = tokens.split_at(45);
        evaluate(&mut model, past, 0, &[0, 1]);
        for (from, to, count) in [(0, 9, BLOCK), (1, 5, 13)] {
            let data = block_on(model.export(from, count)).expect("a written block");
            assert_eq!(data.len(), model.info().kv.bytes(count as usize));
            model.import(to, count, &data).expect("a block of the same shape");
            assert_eq!(block_on(model.export(to, count)).expect("an imported block"), data);
        }
        let moved = evaluate(&mut model, next, past.len(), &[9, 5]);
        assert_eq!(moved, evaluate(&mut model, next, past.len(), &[0, 1]), "{architecture}");
    }
}

#[test]
fn copied_cells_continue_bit_by_bit() {
    let mut model = Tiny::new("gemma3", GgmlDType::F32, 3).load(Cpu::new(2));
    let tokens = prompt(46, 1);
    let (past, next) = tokens.split_at(45);
    evaluate(&mut model, past, 0, &[0, 1]);
    let cell = |block, offset| Cell { block, offset };
    let copies = [
        CellRun { from: cell(0, 0), to: cell(7, 0), count: 20 },
        CellRun { from: cell(0, 20), to: cell(7, 20), count: BLOCK - 20 },
        CellRun { from: cell(1, 0), to: cell(4, 0), count: 13 },
    ];
    model.copy_cells(&copies).expect("cells inside the memory");
    assert_eq!(evaluate(&mut model, next, 45, &[7, 4]), evaluate(&mut model, next, 45, &[0, 1]));
}

#[test]
fn rotated_k_is_the_k_of_the_new_position() {
    // K of the first layer depends on the token and its position alone, so the shifted cells can be computed anew.
    // `gemma3` is asked twice: its first layer local, then global.
    for (architecture, period) in [("llama", 0), ("qwen2", 0), ("qwen3", 0), ("gemma3", 0), ("gemma3", 1)] {
        let mut tiny = Tiny::new(architecture, GgmlDType::F32, 3);
        tiny.set("attention.sliding_window_pattern", Value::U32(period));
        let mut model = tiny.load(Cpu::new(2));
        let shape = model.info().kv;
        let tokens = prompt(30, 2);
        let (discard, kept) = (9, &tokens[9..]);
        evaluate(&mut model, &tokens, 0, &[0]);
        evaluate(&mut model, kept, 0, &[1]);

        let count = kept.len() as u32;
        let from = Cell { block: 0, offset: discard };
        let to = Cell { block: 2, offset: 0 };
        model.copy_cells(&[CellRun { from, to, count }]).expect("cells inside the memory");
        let shift = CellShift { block: 2, offset: 0, count, delta: -(discard as i32) };
        model.shift(&[shift]).expect("cells inside the memory");

        let [wanted, found] =
            [1, 2].map(|block| block_on(model.export(block, count)).expect("a written block"));
        for token in 0..kept.len() {
            let at = |block: &[u8], part| cell(block, shape, kept.len(), 0, part, token);
            assert_eq!(at(&found, 1), at(&wanted, 1), "V of {architecture} token {token}");
            // Each side was rounded to f16 (11 bits), the shifted one twice.
            let error = difference(&at(&found, 0), &at(&wanted, 0));
            assert!(error < 2e-3, "K of {architecture} token {token}: {error}");
        }
    }
}

#[test]
fn each_layer_rotates_by_its_own_frequencies() {
    let delta = 5;
    for architecture in ARCHITECTURES {
        let mut tiny = Tiny::new(architecture, GgmlDType::F32, 3);
        let factors = (architecture == "llama").then(|| tiny.data("rope_freqs.weight").clone());
        let mut model = tiny.load(Cpu::new(2));
        let shape = model.info().kv;
        evaluate(&mut model, &prompt(8, 2), 0, &[0]);
        let before = block_on(model.export(0, 8)).expect("a written block");
        model.shift(&[CellShift { block: 0, offset: 3, count: 2, delta }]).expect("cells inside the memory");
        let after = block_on(model.export(0, 8)).expect("a written block");

        for (layer, token) in (0..shape.layers).flat_map(|layer| (0..8).map(move |token| (layer, token))) {
            let k = |block: &[u8]| cell(block, shape, 8, layer, 0, token);
            if !(3..5).contains(&token) {
                assert_eq!(k(&after), k(&before), "{architecture} layer {layer} token {token}");
                continue;
            }
            let global = (layer + 1).is_multiple_of(common::PERIOD);
            let base: f64 = if architecture == "gemma3" && global { 1e6 } else { 1e4 };
            let wanted = rotated(&k(&before), shape, architecture == "llama", |pair| {
                let factor = factors.as_ref().map_or(1.0, |factors| f64::from(factors[pair]));
                f64::from(delta) * base.powf(-2.0 * pair as f64 / head_dim(architecture) as f64) / factor
            });
            let error = difference(&k(&after), &wanted);
            assert!(error < 1e-3, "{architecture} layer {layer} token {token}: {error}");
        }
    }
}

/// K of a cell turned by an angle for each pair of a head's elements.
fn rotated(k: &[f32], shape: KvShape, adjacent: bool, angle: impl Fn(usize) -> f64) -> Vec<f32> {
    let mut turned = k.to_vec();
    let half = shape.head_dim / 2;
    for head in 0..shape.kv_heads {
        for pair in 0..half {
            let (a, b) = if adjacent { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
            let (a, b) = (head * shape.head_dim + a, head * shape.head_dim + b);
            let (sin, cos) = angle(pair).sin_cos();
            let (x, y) = (f64::from(k[a]), f64::from(k[b]));
            turned[a] = (x * cos - y * sin) as f32;
            turned[b] = (x * sin + y * cos) as f32;
        }
    }
    turned
}

#[test]
fn cells_outside_the_memory_are_refused() {
    let mut model = Tiny::new("llama", GgmlDType::F32, 1).load(Cpu::new(2));
    evaluate(&mut model, &prompt(33, 1), 0, &blocks(0, 33));
    let cell = |block, offset| Cell { block, offset };
    let copy = |from, to, count| [CellRun { from, to, count }];
    let refused = [
        model.copy_cells(&copy(cell(16, 0), cell(0, 0), 1)).expect_err("a block too far"),
        model.copy_cells(&copy(cell(0, 0), cell(0, 31), 2)).expect_err("a cell too far"),
        model
            .shift(&[CellShift { block: 0, offset: u32::MAX, count: 1, delta: 1 }])
            .expect_err("a cell too far"),
        block_on(model.export(0, 33)).expect_err("a cell too far"),
        model.import(16, 1, &[]).expect_err("a block too far"),
    ];
    for error in refused {
        assert!(matches!(error, ModelError::Step(_)), "{error}");
    }
    assert!(matches!(block_on(model.export(2, 1)), Err(ModelError::Compute(_))), "a block never written");
    assert!(matches!(model.import(3, 1, &[0; 3]), Err(ModelError::Compute(_))), "three bytes for a cell");
}
