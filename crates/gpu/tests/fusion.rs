//! What fusion may and may not do: an intermediate that something reads keeps its value, one that nothing reads costs
//! no dispatch.

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::reference::{Reference, Rounding};
use reprise_compute::{
    Activation, Backend, KvShape, Pairing, Pass, Projection, Readback, Readout, Rope, SequenceLayout,
    StepLayout,
};
use reprise_gguf::{GgmlDType, MemorySource};
use reprise_gpu::{Gpu, GpuOptions};

const WIDTH: usize = 64;
const ROWS: usize = 3;
const HEAD: usize = 16;

/// Tensors of the sequence under test.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Read {
    Nothing,
    X,
    Normed,
    Gate,
    Up,
    Branch,
    Keys,
    Queries,
}

fn floats(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn weight<B: Backend>(backend: &B, rows: usize, cols: usize, seed: u64) -> B::Weight {
    let bytes: Vec<u8> = floats(seed, rows * cols).iter().flat_map(|x| x.to_le_bytes()).collect();
    let range = 0..bytes.len() as u64;
    let source = MemorySource(Bytes::from(bytes));
    block_on(backend.weight(GgmlDType::F32, rows, cols, &source, range)).expect("a weight")
}

fn to<'a, W, T>(weight: &'a W, out: &'a mut T) -> [Projection<'a, W, T>; 1] {
    [Projection { weight, bias: None, out }]
}

/// The feed-forward of a layer, and the way of its heads into the KV memory; then `read` is read back.
fn layer<B: Backend>(mut backend: B, read: Read) -> Vec<f32> {
    let table = weight(&backend, ROWS, WIDTH, 1);
    let norm = weight(&backend, 1, WIDTH, 2);
    let head_norm = weight(&backend, 1, HEAD, 3);
    let square: Vec<_> = (4..9).map(|seed| weight(&backend, WIDTH, WIDTH, seed)).collect();
    let tensor = || backend.tensor(ROWS, WIDTH).expect("a tensor");
    let (mut x, mut normed, mut gate, mut up, mut branch) =
        (tensor(), tensor(), tensor(), tensor(), tensor());
    let (mut q, mut k) = (tensor(), tensor());
    let shape = KvShape::f16(1, WIDTH / HEAD, HEAD);
    let mut kv = backend.kv(shape, 1).expect("KV memory");
    let rope = Rope { pairing: Pairing::Halves, inverse_frequencies: vec![1.0, 0.1, 0.01] };

    let sequences = [SequenceLayout { rows: 0..ROWS, start: 2, blocks: &[0] }];
    let layout = StepLayout { sequences: &sequences };
    let mut pass = backend.pass(&layout);
    pass.embed(&table, &[2, 0, 1], 1.0, &mut x);
    pass.norm(&x, &norm, 1e-5, &mut normed);
    pass.linear(&normed, &mut to(&square[0], &mut q));
    pass.linear(&normed, &mut to(&square[1], &mut k));
    pass.norm_heads(&mut q, &head_norm, 1e-5);
    pass.norm_heads(&mut k, &head_norm, 1e-5);
    pass.rope(&mut q, HEAD, &rope);
    pass.rope(&mut k, HEAD, &rope);
    pass.store_kv(&mut kv, 0, &k, &normed);
    let [gates, ups] = [&square[2], &square[3]];
    let mut both = [
        Projection { weight: gates, bias: None, out: &mut gate },
        Projection { weight: ups, bias: None, out: &mut up },
    ];
    pass.linear(&normed, &mut both);
    pass.gate(&mut gate, &up, Activation::Gelu);
    pass.linear(&gate, &mut to(&square[4], &mut branch));
    pass.norm(&branch, &norm, 1e-5, &mut normed);
    pass.add(&mut x, &normed);
    let read = match read {
        Read::Nothing => Readback::Nothing,
        Read::X => Readback::Rows(&x),
        Read::Normed => Readback::Rows(&normed),
        Read::Gate => Readback::Rows(&gate),
        Read::Up => Readback::Rows(&up),
        Read::Branch => Readback::Rows(&branch),
        Read::Keys => Readback::Rows(&k),
        Read::Queries => Readback::Rows(&q),
    };
    let mut out = Readout::default();
    block_on(pass.finish(read, &mut out)).expect("a step");
    // The cells say whether what went into the KV memory is right, whatever became of the tensors.
    let cells = block_on(backend.export_block(&kv, 0, 5)).expect("the block");
    let cells = cells.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
    out.values.extend(cells);
    out.values
}

#[test]
fn what_is_read_keeps_its_value_and_what_is_not_costs_nothing() {
    let gpu = block_on(Gpu::open(&GpuOptions::plain())).expect("a GPU, or Mesa's lavapipe");
    // Embed, norm, two products of three, one of heads, the product for the branch: 7; and a norm that adds. A tensor
    // read back keeps its operations apart.
    for (read, dispatches) in [
        (Read::Nothing, 8),
        (Read::X, 8),
        (Read::Queries, 8),
        (Read::Gate, 8),
        (Read::Branch, 8),
        (Read::Normed, 9),
        (Read::Up, 9),
        (Read::Keys, 12),
    ] {
        let clone = gpu.clone();
        let handle = clone.handle();
        let found = layer(clone, read);
        let wanted = layer(Reference::new(Rounding::Exact), read);
        assert_eq!(found.len(), wanted.len(), "{read:?}");
        for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let close = (found - wanted).abs() <= 2e-3 * (1.0 + wanted.abs());
            assert!(close, "{read:?}: {found} for {wanted} at {at}");
        }
        assert_eq!(handle.counters().dispatches, dispatches, "{read:?}");
    }
}
