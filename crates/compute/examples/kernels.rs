//! Speed of the CPU backend on a model's shape with random weights: prompt and decode tokens per second.
//!
//! `cargo run --release -p reprise-compute --example kernels -- [threads] [type] [depth]`, type being `q4_0`, `q4_1`,
//! `q5_0`, `q5_1`, `q8_0`, `q4k`, `q6k` or `f16`. The shape is SmolLM2-135M's (for k-quants, whose rows are multiples of
//! 256, about that), its output head Q8_0 or the k-quant.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures time"
)]

use std::time::Instant;

use futures::executor::block_on;
use half::f16;
use reprise_compute::{
    Activation, Attention, BLOCK_TOKENS, Backend, Cpu, KvShape, Pairing, Pass, Projection, Readback, Readout,
    Rope, SequenceLayout, StepLayout,
};
use reprise_gguf::{GgmlDType, MemorySource};

const LAYERS: usize = 30;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const VOCAB: usize = 49152;
const PROMPT: usize = 512;
const DECODED: usize = 128;

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().map_or(2, |a| a.parse().unwrap());
    let name = args.next().unwrap_or("q4_1".to_owned());
    let depth: usize = args.next().map_or(0, |a| a.parse().unwrap());
    let dtype = match name.as_str() {
        "q4_0" => GgmlDType::Q4_0,
        "q4_1" => GgmlDType::Q4_1,
        "q5_0" => GgmlDType::Q5_0,
        "q5_1" => GgmlDType::Q5_1,
        "q8_0" => GgmlDType::Q8_0,
        "q4k" => GgmlDType::Q4K,
        "q6k" => GgmlDType::Q6K,
        "f16" => GgmlDType::F16,
        other => panic!("unknown type {other}"),
    };
    let mut model = Model::new(Cpu::new(threads), dtype);
    println!("{}, {name}, depth {depth}", model.cpu.name());
    let total = depth + PROMPT.max(DECODED);
    let blocks: Vec<u32> = (0..total.div_ceil(BLOCK_TOKENS) as u32).collect();
    let mut kv = model.cpu.kv(model.shape(), blocks.len() as u32).unwrap();
    for first in (0..depth).step_by(PROMPT) {
        model.step(&mut kv, &blocks, first, PROMPT.min(depth - first));
    }
    for round in 0..3 {
        let prompt = Timer::start();
        model.step(&mut kv, &blocks, depth, PROMPT);
        let prompt = prompt.rates(PROMPT);
        let decode = Timer::start();
        for i in 0..DECODED {
            model.step(&mut kv, &blocks, depth + i, 1);
        }
        println!("round {round}: pp{PROMPT} {prompt}, tg{DECODED} {}", decode.rates(DECODED));
    }
    for (name, seconds) in model.profile.iter().filter(|(_, s)| *s > 0.0) {
        println!("{name:>10}: {:.0} ms over all rounds", seconds * 1e3);
    }
}

/// Wall time, and the time that the calling thread really ran: on a busy machine the second is the steadier.
struct Timer(Instant, f64);

impl Timer {
    fn start() -> Self {
        Self(Instant::now(), ran())
    }

    fn rates(&self, tokens: usize) -> String {
        let (wall, ran) = (self.0.elapsed().as_secs_f64(), ran() - self.1);
        format!("{:.1} t/s ({:.1} of the time it ran)", tokens as f64 / wall, tokens as f64 / ran)
    }
}

/// Seconds that the calling thread was on a processor, where Linux tells.
fn ran() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns * 1e-9)
}

type Weight = <Cpu as Backend>::Weight;
type Tensor = <Cpu as Backend>::Tensor;

struct Layer {
    q: Weight,
    k: Weight,
    v: Weight,
    o: Weight,
    gate: Weight,
    up: Weight,
    down: Weight,
    norm: Weight,
}

struct Tensors {
    x: Tensor,
    normed: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mixed: Tensor,
    projected: Tensor,
    gate: Tensor,
    up: Tensor,
    last: Tensor,
    logits: Tensor,
}

struct Model {
    cpu: Cpu,
    layers: Vec<Layer>,
    head: Weight,
    tensors: Tensors,
    rope: Rope,
    profile: [(&'static str, f64); 6],
}

impl Model {
    fn new(cpu: Cpu, dtype: GgmlDType) -> Self {
        let block = dtype.block_size();
        let width = 576usize.next_multiple_of(block);
        let hidden = 1536;
        let (q, kv) = ((HEADS * HEAD_DIM).next_multiple_of(block), KV_HEADS * HEAD_DIM);
        assert!(q == HEADS * HEAD_DIM || block == 256);
        let head_type = if block == 256 { dtype } else { GgmlDType::Q8_0 };
        let take = |dtype: GgmlDType, rows: usize, cols: usize, data: Vec<u8>| {
            let range = 0..data.len() as u64;
            block_on(cpu.weight(dtype, rows, cols, &MemorySource(data.into()), range)).unwrap()
        };
        let weight =
            |dtype: GgmlDType, rows: usize, cols: usize| take(dtype, rows, cols, noise(dtype, rows * cols));
        let ones = || take(GgmlDType::F32, 1, width, bytemuck::cast_slice(&vec![1f32; width]).to_vec());
        let layers = (0..LAYERS)
            .map(|_| Layer {
                q: weight(dtype, HEADS * HEAD_DIM, width),
                k: weight(dtype, kv, width),
                v: weight(dtype, kv, width),
                // With 256-element blocks the heads' output is padded by reading the wider stream instead.
                o: weight(
                    if q == HEADS * HEAD_DIM { dtype } else { GgmlDType::Q8_0 },
                    width,
                    HEADS * HEAD_DIM,
                ),
                gate: weight(dtype, hidden, width),
                up: weight(dtype, hidden, width),
                down: weight(dtype, width, hidden),
                norm: ones(),
            })
            .collect();
        let head = weight(head_type, VOCAB, width);
        let tensor = |rows, width| cpu.tensor(rows, width).unwrap();
        let tensors = Tensors {
            x: tensor(PROMPT, width),
            normed: tensor(PROMPT, width),
            q: tensor(PROMPT, HEADS * HEAD_DIM),
            k: tensor(PROMPT, kv),
            v: tensor(PROMPT, kv),
            mixed: tensor(PROMPT, HEADS * HEAD_DIM),
            projected: tensor(PROMPT, width),
            gate: tensor(PROMPT, hidden),
            up: tensor(PROMPT, hidden),
            last: tensor(1, width),
            logits: tensor(1, VOCAB),
        };
        let rope = Rope {
            pairing: Pairing::Adjacent,
            inverse_frequencies: (0..32).map(|i| 10_000f32.powf(-(i as f32) / 32.0)).collect(),
        };
        let profile =
            ["linear", "attention", "norm", "rope+store", "gate+add", "head"].map(|name| (name, 0.0));
        Self { cpu, layers, head, tensors, rope, profile }
    }

    fn shape(&self) -> KvShape {
        KvShape::f16(LAYERS, KV_HEADS, HEAD_DIM)
    }

    fn step(&mut self, kv: &mut <Cpu as Backend>::Kv, blocks: &[u32], start: usize, rows: usize) {
        let sequences = [SequenceLayout { rows: 0..rows, start, blocks }];
        let layout = StepLayout { sequences: &sequences };
        let t = &mut self.tensors;
        let mut pass = self.cpu.pass(&layout);
        let mut clock = Instant::now();
        let profile = &mut self.profile;
        let mut lap = |part: usize| {
            profile[part].1 += clock.elapsed().as_secs_f64();
            clock = Instant::now();
        };
        let tokens: Vec<u32> = (0..rows as u32).collect();
        pass.embed(&self.head, &tokens, 1.0, &mut t.x);
        let spec = Attention { heads: HEADS, scale: 0.125, window: None, softcap: None };
        for (index, layer) in self.layers.iter().enumerate() {
            pass.norm(&t.x, &layer.norm, 1e-5, &mut t.normed);
            lap(2);
            pass.linear(
                &t.normed,
                &mut [
                    Projection { weight: &layer.q, bias: None, out: &mut t.q },
                    Projection { weight: &layer.k, bias: None, out: &mut t.k },
                    Projection { weight: &layer.v, bias: None, out: &mut t.v },
                ],
            );
            lap(0);
            pass.rope(&mut t.q, HEAD_DIM, &self.rope);
            pass.rope(&mut t.k, HEAD_DIM, &self.rope);
            pass.store_kv(kv, index, &t.k, &t.v);
            lap(3);
            pass.attention(kv, index, &t.q, &spec, &mut t.mixed);
            lap(1);
            pass.linear(&t.mixed, &mut [Projection { weight: &layer.o, bias: None, out: &mut t.projected }]);
            lap(0);
            pass.add(&mut t.x, &t.projected);
            lap(4);
            pass.norm(&t.x, &layer.norm, 1e-5, &mut t.normed);
            lap(2);
            pass.linear(
                &t.normed,
                &mut [
                    Projection { weight: &layer.gate, bias: None, out: &mut t.gate },
                    Projection { weight: &layer.up, bias: None, out: &mut t.up },
                ],
            );
            lap(0);
            pass.gate(&mut t.gate, &t.up, Activation::Silu);
            lap(4);
            pass.linear(
                &t.gate,
                &mut [Projection { weight: &layer.down, bias: None, out: &mut t.projected }],
            );
            lap(0);
            pass.add(&mut t.x, &t.projected);
            lap(4);
        }
        pass.gather(&t.x, &[rows as u32 - 1], &mut t.last);
        pass.linear(&t.last, &mut [Projection { weight: &self.head, bias: None, out: &mut t.logits }]);
        lap(5);
        let mut out = Readout::default();
        block_on(pass.finish(Readback::Rows(&t.logits), &mut out)).unwrap();
    }
}

/// Bytes of `elements` random weights with small scales.
fn noise(dtype: GgmlDType, elements: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut bytes: Vec<u8> = (0..elements / dtype.block_size() * dtype.type_size())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let small = f16::from_f32(0.002).to_le_bytes();
    for block in bytes.chunks_exact_mut(dtype.type_size()) {
        match dtype {
            GgmlDType::F16 => {
                let weight = f16::from_f32(f32::from(block[0]) * 1e-4 - 0.0128);
                block.copy_from_slice(&weight.to_le_bytes());
            }
            GgmlDType::Q6K => block[208..210].copy_from_slice(&small),
            GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K => {
                block[..2].copy_from_slice(&small);
                block[2..4].copy_from_slice(&small);
            }
            _ => block[..2].copy_from_slice(&small),
        }
    }
    bytes
}
