//! A GGUF file of Llama-3.2-1B's shape with random weights: as large and as slow as the real one, and as wise as its dice.
//!
//! `cargo run --release -p reprise-gguf --example random -- source.gguf q4_k_m target.gguf`. The vocabulary is that of the source (a
//! byte-level one), filled up with tokens that nothing is tokenized to. `q4_k_m` and `q5_k_m` mix types as llama.cpp's files of that
//! name do; `q4_k`, `q5_k` and `q6_k` are of one type, their embedding (the head, too) Q6_K.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reads and writes files")]

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use bytes::Bytes;
use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use futures::executor::block_on;
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{GgmlDType, Gguf, MemorySource, Value};

const LAYERS: usize = 16;
const WIDTH: usize = 2048;
const FEED_FORWARD: usize = 8192;
const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 64;
const VOCAB: usize = 128_256;
/// `tokenizer.ggml.token_type` of a token that is not used.
const UNUSED: i32 = 5;
/// Names, whether some matrices get more bits, and numbers of `general.file_type`.
const TYPES: [(&str, GgmlDType, bool, u32); 5] = [
    ("q4_k_m", GgmlDType::Q4K, true, 15),
    ("q5_k_m", GgmlDType::Q5K, true, 17),
    ("q4_k", GgmlDType::Q4K, false, 14),
    ("q5_k", GgmlDType::Q5K, false, 16),
    ("q6_k", GgmlDType::Q6K, false, 18),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, name, target] = arguments.as_slice() else {
        return Err("give a source, a type (q4_k_m, q5_k_m, q4_k, q5_k, q6_k) and a target".into());
    };
    let known = TYPES.iter().find(|(known, ..)| known == name);
    let &(_, dtype, mixed, file_type) =
        known.ok_or_else(|| format!("'{name}' is no type that this can write"))?;
    let source = block_on(Gguf::open(&MemorySource(Bytes::from(std::fs::read(source)?))))?;

    let mut builder = vocabulary(hyper_parameters(file_type), &source)?;
    let (mut plain, mut finer) = (Dice::new(dtype)?, Dice::new(GgmlDType::Q6K)?);
    builder = finer.tensor(builder, "token_embd.weight", VOCAB, WIDTH)?;
    let ones = vec![1.0; WIDTH];
    builder = builder.tensor("output_norm.weight", &[WIDTH], GgmlDType::F32, &ones)?;
    for layer in 0..LAYERS {
        // llama.cpp's choice: the first and the last eighth, and every third between them.
        let (first, last) = (LAYERS / 8, 7 * LAYERS / 8);
        let more = mixed && (layer < first || layer >= last || (layer - first) % 3 == 2);
        let (query, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        for (part, rows, cols, more) in [
            ("attn_q", query, WIDTH, false),
            ("attn_k", kv, WIDTH, false),
            ("attn_v", kv, WIDTH, more),
            ("attn_output", WIDTH, query, false),
            ("ffn_gate", FEED_FORWARD, WIDTH, false),
            ("ffn_up", FEED_FORWARD, WIDTH, false),
            ("ffn_down", WIDTH, FEED_FORWARD, more),
        ] {
            let dice = if more { &mut finer } else { &mut plain };
            builder = dice.tensor(builder, &format!("blk.{layer}.{part}.weight"), rows, cols)?;
        }
        for part in ["attn_norm", "ffn_norm"] {
            let name = format!("blk.{layer}.{part}.weight");
            builder = builder.tensor(name, &[WIDTH], GgmlDType::F32, &ones)?;
        }
    }
    builder.write(&mut BufWriter::new(File::create(target)?))?;
    println!("{target}: {} MB", std::fs::metadata(target)?.len() / 1_000_000);
    Ok(())
}

fn hyper_parameters(file_type: u32) -> GgufBuilder {
    GgufBuilder::new("llama")
        .string("general.name", "Random weights of Llama 3.2 1B's shape")
        .u32("general.file_type", file_type)
        .u32("general.quantization_version", 2)
        .u32("llama.block_count", LAYERS as u32)
        .u32("llama.context_length", 131_072)
        .u32("llama.embedding_length", WIDTH as u32)
        .u32("llama.feed_forward_length", FEED_FORWARD as u32)
        .u32("llama.attention.head_count", HEADS as u32)
        .u32("llama.attention.head_count_kv", KV_HEADS as u32)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .f32("llama.rope.freq_base", 500_000.0)
        .u32("llama.rope.dimension_count", HEAD_DIM as u32)
        .u32("llama.vocab_size", VOCAB as u32)
}

/// All that is said about tokens, and tokens up to the vocabulary's size.
fn vocabulary(mut builder: GgufBuilder, source: &Gguf) -> Result<GgufBuilder, Box<dyn Error>> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const TYPES: &str = "tokenizer.ggml.token_type";
    for (key, value) in source.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        if key != TOKENS && key != TYPES {
            builder = builder.metadata(key, value.clone());
        }
    }
    let mut tokens: Vec<_> = source.metadata.strings(TOKENS)?.into_iter().map(str::to_owned).collect();
    let Some(Value::Array(types)) = source.metadata.value(TYPES) else {
        return Err(format!("the source has no {TYPES}").into());
    };
    let mut types = types.clone();
    if tokens.len() > VOCAB || types.len() != tokens.len() {
        return Err(
            "the source's vocabulary is too large, or its tokens are not as many as their types".into()
        );
    }
    tokens.extend((tokens.len()..VOCAB).map(|token| format!("<|unused_{token}|>")));
    types.resize(VOCAB, Value::I32(UNUSED));
    Ok(builder.strings(TOKENS, tokens).metadata(TYPES, Value::Array(types)))
}

/// Random weights of a type: those of a short stretch, begun anew at another place for each tensor. A kernel takes as long
/// for these as for others, and quantising them all would take minutes.
struct Dice {
    dtype: GgmlDType,
    stretch: Vec<u8>,
    begin: usize,
}

impl Dice {
    fn new(dtype: GgmlDType) -> Result<Self, Box<dyn Error>> {
        const STRETCH: usize = 1 << 20;
        // So that a row's products do not grow from layer to layer.
        let deviation = 0.5 / (WIDTH as f32).sqrt();
        let weights = Tensor::randn(0f32, deviation, STRETCH, &Device::Cpu)?;
        let stretch = QTensor::quantize(&weights, dtype)?.data()?.into_owned();
        Ok(Self { dtype, stretch, begin: 0 })
    }

    fn tensor(
        &mut self,
        builder: GgufBuilder,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<GgufBuilder, Box<dyn Error>> {
        let block = self.dtype.type_size();
        let bytes = rows * cols / self.dtype.block_size() * block;
        let data: Vec<u8> = self.stretch.iter().copied().cycle().skip(self.begin).take(bytes).collect();
        self.begin = (self.begin + 977 * block) % self.stretch.len();
        Ok(builder.stored(name, &[rows, cols], self.dtype, &data)?)
    }
}
