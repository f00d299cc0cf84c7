//! The op suite on every instruction set and several thread counts, and what only this backend promises.

use futures::executor::block_on;

use super::*;
use crate::kernels::Isa;
use crate::reference::Rounding;
use crate::suite;
use crate::{Pass, Readback, Readout, SequenceLayout};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn the_op_suite_holds_on_every_instruction_set() {
    for &isa in Isa::available() {
        for threads in [1, 3] {
            let report = block_on(suite::run_all(|| Cpu::with_isa(threads, isa), Rounding::EightBit));
            say(&format!("{}, {threads} threads", isa.name()), &report);
            assert!(report.failures.is_empty(), "{}, {threads} threads: {report}", isa.name());
        }
    }
}

#[allow(clippy::print_stdout, reason = "the test run on an emulated processor repeats these lines")]
fn say(variant: &str, report: &suite::Report) {
    println!("op suite cpu, {variant}: {} passed, {} failed", report.passed, report.failures.len());
}

#[test]
fn quantised_kv_holds_on_every_instruction_set() {
    for &isa in Isa::available() {
        let report = block_on(suite::run_quantised_kv(|| Cpu::with_isa(2, isa)));
        assert!(report.failures.is_empty() && report.passed > 10, "{}: {report}", isa.name());
    }
}

#[test]
fn quantised_kv_needs_whole_heads() {
    let shape = KvShape { keys: crate::KvType::Q8_0, ..KvShape::f16(1, 2, 80) };
    let refused = Cpu::new(1).kv(shape, 1).expect_err("heads of 80 elements");
    assert!(refused.to_string().contains("choose f16"), "{refused}");
}

#[test]
fn quantised_keys_turn_and_turn_back() {
    let shape = KvShape { keys: crate::KvType::Q8_0, ..KvShape::f16(1, 1, 32) };
    let mut cpu = Cpu::new(1);
    let mut kv = cpu.kv(shape, 1).unwrap();
    let before: Vec<u8> = [0x00, 0x3c].into_iter().chain((0..32).map(|i| i * 3 + 10)).collect();
    kv.import(0, 1, &before.iter().copied().chain([0; 64]).collect::<Vec<_>>()).unwrap();
    let rope = Rope { pairing: crate::Pairing::Halves, inverse_frequencies: vec![0.3; 16] };
    let at = Cell { block: 0, offset: 0 };
    let keys = |kv: &CpuKv| {
        let bytes = kv.export(0, 1).unwrap();
        let scale = half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        bytes[2..34].iter().map(|&q| f32::from(q as i8) * scale).collect::<Vec<_>>()
    };
    let first = keys(&kv);
    cpu.rotate_cells(&mut kv, 0, at, 1, 5, &rope).unwrap();
    let turned = keys(&kv);
    let angle = 1.5f32;
    for i in 0..16 {
        let wanted = first[i] * angle.cos() - first[i + 16] * angle.sin();
        assert!((turned[i] - wanted).abs() < 1.0, "element {i}: {} for {wanted}", turned[i]);
    }
    cpu.rotate_cells(&mut kv, 0, at, 1, -5, &rope).unwrap();
    for (back, first) in keys(&kv).iter().zip(&first) {
        assert!((back - first).abs() < 2.0, "{back} for {first}");
    }
}

/// One row of a sequence of so many tokens in these blocks.
async fn decoded(cpu: &mut Cpu, kv: &CpuKv, parts: &[(usize, &[u32])]) -> Vec<f32> {
    const WIDTH: usize = 4 * 16;
    let sequence =
        |(row, &(tokens, blocks)): (usize, &(usize, &'_ [u32]))| (row..row + 1, tokens - 1, blocks.to_vec());
    let parts: Vec<_> = parts.iter().enumerate().map(sequence).collect();
    let sequences: Vec<_> = parts
        .iter()
        .map(|(rows, start, blocks)| SequenceLayout { rows: rows.clone(), start: *start, blocks })
        .collect();
    let mut q = cpu.tensor(sequences.len(), WIDTH).unwrap();
    for (out, sequence) in q.resize("test", sequences.len()).unwrap().chunks_exact_mut(WIDTH).zip(&sequences)
    {
        for (i, out) in out.iter_mut().enumerate() {
            *out = ((i * 7 + sequence.start) % 23) as f32 * 0.1 - 1.0;
        }
    }
    let mut out = cpu.tensor(sequences.len(), WIDTH).unwrap();
    let layout = StepLayout { sequences: &sequences };
    let mut pass = cpu.pass(&layout);
    let spec = crate::Attention { heads: 4, scale: 0.25, window: None, softcap: None };
    pass.attention(kv, 0, &q, &spec, &mut out);
    let mut read = Readout::default();
    pass.finish(Readback::Rows(&out), &mut read).await.unwrap();
    read.values
}

#[test]
fn sequences_that_share_blocks_are_as_if_alone() {
    let shape = KvShape::f16(1, 2, 16);
    for &isa in Isa::available() {
        let mut cpu = Cpu::with_isa(2, isa);
        let mut kv = cpu.kv(shape, 48).unwrap();
        for block in 0..48 {
            let value =
                |i: usize| half::f16::from_f32(((i * 31 + block as usize * 17) % 97) as f32 * 0.02 - 1.0);
            let bytes: Vec<u8> = (0..shape.block_bytes() / 2).flat_map(|i| value(i).to_le_bytes()).collect();
            kv.import(block, 32, &bytes).unwrap();
        }
        // A short one and a long one behind the same 256 tokens, in either order, and one that shares nothing.
        let common: Vec<u32> = (0..8).collect();
        let short = [common.clone(), vec![8]].concat();
        let long = [common, (10..38).collect()].concat();
        let other: Vec<u32> = (38..48).collect();
        let parts =
            [(270, short.as_slice()), (1100, long.as_slice()), (300, other.as_slice()), (257, &short)];
        let alone: Vec<_> = parts.iter().map(|part| block_on(decoded(&mut cpu, &kv, &[*part]))).collect();
        for order in [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let together = block_on(decoded(&mut cpu, &kv, &order.map(|i| parts[i])));
            assert_eq!(together, order.map(|i| alone[i].clone()).concat(), "{}, {order:?}", isa.name());
        }
    }
}

#[test]
fn results_do_not_depend_on_the_batch() {
    for &isa in Isa::available() {
        let report = block_on(suite::batch_invariance(|| Cpu::with_isa(2, isa)));
        assert!(report.failures.is_empty() && report.passed > 50, "{}: {report}", isa.name());
    }
}

#[test]
#[cfg(not(target_arch = "wasm32"))]
fn the_name_tells_threads_and_instruction_set() {
    assert_eq!(Cpu::with_isa(1, Isa::Portable).name(), "CPU (1 thread, portable)");
    assert!(Cpu::new(2).name().starts_with("CPU (2 threads, "));
}

#[test]
fn instruction_sets_are_chosen_by_name() {
    for &isa in Isa::available() {
        let cpu = Cpu::new(1).with_instructions(&isa.name().to_lowercase().replace([' ', '-'], "")).unwrap();
        assert_eq!(cpu.name(), Cpu::with_isa(1, isa).name());
    }
    let error = Cpu::new(1).with_instructions("abacus").unwrap_err().to_string();
    assert!(error.contains("'abacus'") && error.contains("portable"), "{error}");
}

/// Runs one step over `rows` rows at position 0 and gives what `finish` says.
fn step(
    rows: usize,
    blocks: &[u32],
    record: impl FnOnce(&mut CpuPass<'_>),
) -> Result<Vec<f32>, ComputeError> {
    let mut cpu = Cpu::new(2);
    let sequences = [SequenceLayout { rows: 0..rows, start: 0, blocks }];
    let layout = StepLayout { sequences: &sequences };
    let mut pass = cpu.pass(&layout);
    record(&mut pass);
    let mut out = Readout::default();
    block_on(pass.finish(Readback::Nothing, &mut out)).map(|()| out.values)
}

fn f32_weight(rows: usize, cols: usize) -> CpuWeight {
    CpuWeight::new(GgmlDType::F32, rows, cols, vec![0; rows * cols * 4].into()).unwrap()
}

#[track_caller]
fn refused(result: Result<Vec<f32>, ComputeError>, wanted_op: &str) {
    match result {
        Err(ComputeError::Operands { op, .. }) => assert_eq!(op, wanted_op),
        other => panic!("{wanted_op}: {other:?}"),
    }
}

#[test]
fn operands_that_do_not_fit_fail_the_step() {
    let cpu = Cpu::new(1);
    let tensor = |width| cpu.tensor(4, width).unwrap();
    let table = f32_weight(10, 8);

    refused(step(1, &[0], |p| p.embed(&table, &[10], 1.0, &mut tensor(8))), "embed");
    refused(step(1, &[0], |p| p.embed(&table, &[1], 1.0, &mut tensor(9))), "embed");
    refused(step(5, &[0], |p| p.embed(&table, &[1; 5], 1.0, &mut tensor(8))), "embed");
    refused(step(1, &[0], |p| p.norm(&tensor(8), &table, 1e-5, &mut tensor(8))), "norm");
    refused(step(1, &[0], |p| p.norm(&tensor(8), &f32_weight(1, 7), 1e-5, &mut tensor(8))), "norm");
    refused(step(1, &[0], |p| p.norm_heads(&mut tensor(8), &f32_weight(1, 3), 1e-5)), "norm_heads");
    refused(step(1, &[0], |p| p.add(&mut tensor(8), &tensor(9))), "add");
    refused(step(1, &[0], |p| p.gate(&mut tensor(8), &tensor(9), crate::Activation::Silu)), "gate");
    refused(step(1, &[0], |p| p.gather(&tensor(8), &[0], &mut tensor(8))), "gather");
    refused(step(33, &[0], |_| {}), "pass");
    let rope = Rope { pairing: crate::Pairing::Halves, inverse_frequencies: vec![1.0; 5] };
    refused(step(1, &[0], |p| p.rope(&mut tensor(8), 8, &rope)), "rope");
    let bias = f32_weight(1, 9);
    let mut out = tensor(10);
    refused(
        step(1, &[0], |p| {
            let projection = crate::Projection { weight: &table, bias: Some(&bias), out: &mut out };
            p.linear(&tensor(8), &mut [projection]);
        }),
        "linear",
    );
}

#[test]
fn attention_over_cells_never_written_fails_the_step() {
    let cpu = Cpu::new(1);
    let shape = KvShape::f16(1, 1, 8);
    let kv = cpu.kv(shape, 2).unwrap();
    let table = f32_weight(2, 8);
    let spec = crate::Attention { heads: 1, scale: 1.0, window: None, softcap: None };
    for (block, state) in [(1, "empty"), (2, "outside the KV memory")] {
        let result = step(1, &[block], |p| {
            let (mut q, mut out) = (cpu.tensor(1, 8).unwrap(), cpu.tensor(1, 8).unwrap());
            p.embed(&table, &[0], 1.0, &mut q);
            p.attention(&kv, 0, &q, &spec, &mut out);
        });
        match result {
            Err(ComputeError::Block { block: found, state: why }) => assert_eq!((found, why), (block, state)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn rotating_there_and_back_gives_the_keys_within_f16() {
    let mut cpu = Cpu::new(1);
    let shape = KvShape::f16(1, 2, 16);
    let mut kv = cpu.kv(shape, 1).unwrap();
    let keys: Vec<half::f16> =
        (0..2 * 32 * 32).map(|i| half::f16::from_f32((i * 37 % 100) as f32 / 50.0 - 1.0)).collect();
    cpu.import_block(&mut kv, 0, 32, bytemuck::cast_slice(&keys)).unwrap();
    let rope = Rope {
        pairing: crate::Pairing::Halves,
        inverse_frequencies: (0..8).map(|i| 10_000f32.powf(-(i as f32) / 8.0)).collect(),
    };
    let at = Cell { block: 0, offset: 0 };
    cpu.rotate_cells(&mut kv, 0, at, 32, -1234, &rope).unwrap();
    let turned = block_on(cpu.export_block(&kv, 0, 32)).unwrap();
    cpu.rotate_cells(&mut kv, 0, at, 32, 1234, &rope).unwrap();
    let back = block_on(cpu.export_block(&kv, 0, 32)).unwrap();
    let back: Vec<half::f16> = back.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]])).collect();
    assert_ne!(turned, bytemuck::cast_slice::<_, u8>(&keys));
    for (i, (back, key)) in back.iter().zip(&keys).enumerate() {
        assert!((back.to_f32() - key.to_f32()).abs() < 2e-3, "{i}: {back} for {key}");
    }
}
