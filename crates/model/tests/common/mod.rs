//! Tiny models with seeded weights, one for each architecture, and what the tests do with models.
#![allow(dead_code, reason = "each test binary uses its part")]

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Backend, KvShape};
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{GgmlDType, Gguf, MemorySource, TokenId, Value};
use reprise_model::{Forward, LoadOptions, Model, ModelError, Output, Sequence, StepOutput, Top, load};

pub(crate) const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];
pub(crate) const VOCAB: usize = 64;
pub(crate) const WIDTH: usize = 64;
pub(crate) const LAYERS: usize = 4;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const FEED_FORWARD: usize = 96;
/// Every third layer of the `gemma3` fixture sees the whole context, the others a window.
pub(crate) const PERIOD: usize = 3;
pub(crate) const WINDOW: usize = 7;

/// A model file that can still be changed.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) architecture: &'static str,
    keys: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>, GgmlDType, Vec<f32>)>,
}

/// Elements of a head: `qwen3` and `gemma3` set it apart from the width.
pub(crate) fn head_dim(architecture: &str) -> usize {
    if matches!(architecture, "qwen3" | "gemma3") { 32 } else { WIDTH / HEADS }
}

impl Tiny {
    /// The model of this seed; matrices are stored as `dtype`, vectors as F32.
    pub(crate) fn new(architecture: &'static str, dtype: GgmlDType, seed: u64) -> Self {
        let mut tiny = Self { architecture, keys: Vec::new(), tensors: Vec::new() };
        let head = head_dim(architecture);
        for (key, value) in [
            ("context_length", 256),
            ("embedding_length", WIDTH),
            ("block_count", LAYERS),
            ("feed_forward_length", FEED_FORWARD),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", KV_HEADS),
        ] {
            tiny.set(key, Value::U32(value as u32));
        }
        tiny.set("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        if head != WIDTH / HEADS {
            tiny.set("attention.key_length", Value::U32(head as u32));
            tiny.set("attention.value_length", Value::U32(head as u32));
        }
        if architecture == "gemma3" {
            tiny.set("attention.sliding_window", Value::U32(WINDOW as u32));
            tiny.set("attention.sliding_window_pattern", Value::U32(PERIOD as u32));
            tiny.set("rope.freq_base", Value::F32(1e6));
        }

        let mut random = Random(seed);
        let mut matrix = |name: &str, rows: usize, cols: usize| {
            let scale = 1.7 / (cols as f32).sqrt();
            let data = random.floats(rows * cols, scale);
            tiny.tensors.push((format!("{name}.weight"), vec![rows, cols], dtype, data));
        };
        matrix("token_embd", VOCAB, WIDTH);
        if architecture != "gemma3" {
            matrix("output", VOCAB, WIDTH);
        }
        for i in 0..LAYERS {
            matrix(&format!("blk.{i}.attn_q"), HEADS * head, WIDTH);
            matrix(&format!("blk.{i}.attn_k"), KV_HEADS * head, WIDTH);
            matrix(&format!("blk.{i}.attn_v"), KV_HEADS * head, WIDTH);
            matrix(&format!("blk.{i}.attn_output"), WIDTH, HEADS * head);
            matrix(&format!("blk.{i}.ffn_gate"), FEED_FORWARD, WIDTH);
            matrix(&format!("blk.{i}.ffn_up"), FEED_FORWARD, WIDTH);
            matrix(&format!("blk.{i}.ffn_down"), WIDTH, FEED_FORWARD);
        }
        let mut vector = |name: &str, len: usize, around: f32| {
            let data = random.floats(len, 0.2).into_iter().map(|x| around + x).collect();
            tiny.tensors.push((name.to_owned(), vec![len], GgmlDType::F32, data));
        };
        vector("output_norm.weight", WIDTH, 1.0);
        if architecture == "llama" {
            vector("rope_freqs.weight", head / 2, 2.0);
        }
        for i in 0..LAYERS {
            vector(&format!("blk.{i}.attn_norm.weight"), WIDTH, 1.0);
            vector(&format!("blk.{i}.ffn_norm.weight"), WIDTH, 1.0);
            if architecture == "qwen2" {
                vector(&format!("blk.{i}.attn_q.bias"), HEADS * head, 0.0);
                vector(&format!("blk.{i}.attn_k.bias"), KV_HEADS * head, 0.0);
                vector(&format!("blk.{i}.attn_v.bias"), KV_HEADS * head, 0.0);
            }
            if matches!(architecture, "qwen3" | "gemma3") {
                vector(&format!("blk.{i}.attn_q_norm.weight"), head, 1.0);
                vector(&format!("blk.{i}.attn_k_norm.weight"), head, 1.0);
            }
            if architecture == "gemma3" {
                vector(&format!("blk.{i}.post_attention_norm.weight"), WIDTH, 1.0);
                vector(&format!("blk.{i}.post_ffw_norm.weight"), WIDTH, 1.0);
            }
        }
        tiny
    }

    /// Sets a key of the architecture.
    pub(crate) fn set(&mut self, key: &str, value: Value) -> &mut Self {
        let key = format!("{}.{key}", self.architecture);
        self.set_full(&key, value)
    }

    /// Sets a key given with its prefix.
    pub(crate) fn set_full(&mut self, key: &str, value: Value) -> &mut Self {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        let key = format!("{}.{key}", self.architecture);
        self.keys.retain(|(name, _)| *name != key);
        self
    }

    pub(crate) fn remove_tensor(&mut self, name: &str) -> &mut Self {
        self.tensors.retain(|tensor| tensor.0 != name);
        self
    }

    /// Gives a tensor other dimensions (outermost first) and the data to fill them.
    pub(crate) fn reshape(&mut self, name: &str, dims: &[usize]) -> &mut Self {
        let tensor =
            self.tensors.iter_mut().find(|tensor| tensor.0 == name).expect("a tensor of the fixture");
        tensor.1 = dims.to_vec();
        tensor.3.resize(dims.iter().product(), 0.5);
        self
    }

    /// The elements of a tensor.
    pub(crate) fn data(&mut self, name: &str) -> &mut Vec<f32> {
        &mut self.tensors.iter_mut().find(|tensor| tensor.0 == name).expect("a tensor of the fixture").3
    }

    pub(crate) fn source(&self) -> MemorySource {
        let mut builder = GgufBuilder::new(self.architecture);
        for (key, value) in &self.keys {
            builder = builder.metadata(key, value.clone());
        }
        for (name, dims, dtype, data) in &self.tensors {
            builder = builder.tensor(name, dims, *dtype, data).expect("data that fills its dimensions");
        }
        MemorySource(Bytes::from(builder.to_bytes().expect("a file in memory")))
    }

    pub(crate) fn gguf(&self) -> Gguf {
        block_on(Gguf::open(&self.source())).expect("a GGUF file")
    }

    pub(crate) fn try_load<B: Backend>(
        &self,
        backend: B,
        options: LoadOptions,
    ) -> Result<Model<B>, ModelError> {
        let source = self.source();
        block_on(async { load(&source, &Gguf::open(&source).await?, backend, options).await })
    }

    pub(crate) fn load<B: Backend>(&self, backend: B) -> Model<B> {
        self.try_load(backend, options()).expect("a model that loads")
    }
}

/// Room for the tests' sequences.
pub(crate) fn options() -> LoadOptions {
    LoadOptions { blocks: 16, batch: 64, logit_rows: 4, ..LoadOptions::default() }
}

/// A prompt of `count` tokens.
pub(crate) fn prompt(count: usize, seed: u64) -> Vec<TokenId> {
    let mut random = Random(seed);
    (0..count).map(|_| TokenId((random.next() % VOCAB as u64) as u32)).collect()
}

/// Logits of the last of `tokens`, evaluated from position `start` on.
pub(crate) fn evaluate<M: Forward>(
    model: &mut M,
    tokens: &[TokenId],
    start: usize,
    blocks: &[u32],
) -> Vec<f32> {
    let logits = step(model, tokens, start, blocks, Output::LastLogits).logits;
    assert_eq!(logits.len(), model.info().vocab);
    logits
}

/// Evaluates `tokens` for their KV alone.
pub(crate) fn store<M: Forward>(model: &mut M, tokens: &[TokenId], start: usize, blocks: &[u32]) {
    let out = step(model, tokens, start, blocks, Output::Nothing);
    assert!(out.logits.is_empty() && out.hidden.is_empty());
}

fn step<M: Forward>(
    model: &mut M,
    tokens: &[TokenId],
    start: usize,
    blocks: &[u32],
    output: Output,
) -> StepOutput {
    // What a step before it left behind must not show.
    let top = Top { count: 1, logits: vec![1.0], tokens: vec![1] };
    let mut out = StepOutput { logits: vec![1.0], top, hidden: vec![1.0] };
    let sequence = Sequence { tokens, start: start as u32, blocks, output };
    block_on(model.forward(&[sequence], &mut out)).expect("a step");
    out
}

/// One cell's K (`part` 0) or V (`part` 1) of a layer in an exported block.
pub(crate) fn cell(
    block: &[u8],
    shape: KvShape,
    tokens: usize,
    layer: usize,
    part: usize,
    token: usize,
) -> Vec<f32> {
    let row = shape.row();
    let start = (((layer * 2 + part) * tokens) + token) * row * 2;
    block[start..start + row * 2]
        .chunks_exact(2)
        .map(|bytes| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
        .collect()
}

/// Largest difference over the largest magnitude.
pub(crate) fn difference(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    found.iter().zip(wanted).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

/// Blocks for `tokens` tokens, from `first` on.
pub(crate) fn blocks(first: u32, tokens: usize) -> Vec<u32> {
    (first..first + tokens.div_ceil(BLOCK_TOKENS) as u32).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `-scale..scale`.
    fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| ((self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale).collect()
    }
}
