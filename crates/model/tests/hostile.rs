//! Files that lie are refused by an error that names the key or the tensor.

mod common;

use common::{ARCHITECTURES, Tiny, options};
use reprise_compute::Cpu;
use reprise_gguf::{GgmlDType, TensorInfo, Value};
use reprise_model::memory_needed;

/// What loading says about a fixture after `change`.
fn refusal(architecture: &'static str, change: impl FnOnce(&mut Tiny)) -> String {
    let mut tiny = Tiny::new(architecture, GgmlDType::F32, 1);
    change(&mut tiny);
    match tiny.try_load(Cpu::new(2), options()) {
        Ok(_) => "nothing".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn numbers_out_of_range_name_their_key() {
    for architecture in ARCHITECTURES {
        for (key, value, reason) in [
            ("attention.head_count", Value::U32(0), "is 0"),
            ("attention.head_count", Value::U32(3), "multiple of the 2 KV heads"),
            ("attention.head_count", Value::I32(-4), "a whole number"),
            ("attention.head_count", Value::Array(vec![Value::U32(4)]), "an array"),
            ("attention.head_count_kv", Value::U32(0), "is 0"),
            ("attention.head_count_kv", Value::U32(3), "multiple of the 3 KV heads"),
            ("attention.key_length", Value::U32(15), "even"),
            ("attention.value_length", Value::U32(8), "is 8"),
            ("rope.dimension_count", Value::U32(8), "is 8"),
            ("attention.layer_norm_rms_epsilon", Value::F32(f32::NAN), "NaN"),
            ("attention.layer_norm_rms_epsilon", Value::F32(-1.0), "-1"),
            ("attention.causal", Value::Bool(false), "encoders"),
            ("embedding_length", Value::U32(0), "is 0"),
            ("embedding_length", Value::U32(u32::MAX), "is 4294967295"),
            ("feed_forward_length", Value::U32(0), "is 0"),
            ("block_count", Value::U32(0), "is 0"),
            ("block_count", Value::U32(u32::MAX), "is 4294967295"),
            ("expert_count", Value::U32(8), "mixtures of experts"),
            ("rope.freq_base", Value::F32(0.0), "is 0"),
            ("rope.scaling.type", Value::String("yarn".into()), "'yarn'"),
            ("rope.scaling.attn_factor", Value::F32(0.5), "is 0.5"),
            ("context_length", Value::String("long".into()), "a whole number"),
        ] {
            let found = refusal(architecture, |tiny| {
                tiny.set(key, value.clone());
            });
            let name = match (reason, key) {
                // Told about the key that the other does not divide.
                ("multiple of the 3 KV heads", _) => "attention.head_count",
                _ => key,
            };
            let name = format!("{architecture}.{name}");
            assert!(found.contains(&name) && found.contains(reason), "{name} = {value:?}: {found}");
        }
    }
}

#[test]
fn products_out_of_range_are_refused() {
    let found = refusal("qwen3", |tiny| {
        tiny.set("attention.head_count", Value::U32(1 << 18));
    });
    assert!(found.contains("qwen3.attention.head_count") && found.contains("too many heads"), "{found}");
    let found = refusal("llama", |tiny| {
        tiny.set("attention.head_count", Value::U32(6));
    });
    assert!(found.contains("llama.embedding_length") && found.contains("6 heads"), "{found}");
}

#[test]
fn a_missing_key_is_named() {
    for key in [
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "context_length",
    ] {
        let found = refusal("qwen3", |tiny| {
            tiny.remove(key);
        });
        assert!(found.contains(&format!("qwen3.{key}")), "{key}: {found}");
    }
}

#[test]
fn every_tensor_is_needed() {
    for architecture in ARCHITECTURES {
        for tensor in Tiny::new(architecture, GgmlDType::F32, 1).gguf().tensors() {
            // Optional ones: `output` is tied to the embedding without its tensor.
            let optional = ["output.weight", "rope_freqs.weight"].contains(&tensor.name.as_str())
                || tensor.name.ends_with(".bias");
            let found = refusal(architecture, |tiny| {
                tiny.remove_tensor(&tensor.name);
            });
            let wanted = if optional { "nothing".to_owned() } else { format!("'{}'", tensor.name) };
            assert!(found.contains(&wanted), "{architecture} without {}: {found}", tensor.name);
        }
    }
}

#[test]
fn every_shape_is_checked() {
    for architecture in ARCHITECTURES {
        for tensor in Tiny::new(architecture, GgmlDType::F32, 1).gguf().tensors() {
            let (mut longer, mut wider) = (tensor.dims.clone(), tensor.dims.clone());
            longer[0] += 1;
            *wider.last_mut().expect("a dimension") += 1;
            let deeper = [&tensor.dims[..], &[2]].concat();
            for dims in [longer, wider, deeper] {
                // A longer embedding is a larger vocabulary; its own test is below.
                if tensor.name == "token_embd.weight" && dims[0] != tensor.dims[0] {
                    continue;
                }
                let found = refusal(architecture, |tiny| {
                    tiny.reshape(&tensor.name, &dims);
                });
                assert!(found.contains(&format!("'{}'", tensor.name)), "{} {dims:?}: {found}", tensor.name);
            }
        }
    }
}

#[test]
fn more_layers_than_tensors_are_refused() {
    let found = refusal("llama", |tiny| {
        tiny.set("block_count", Value::U32(400));
    });
    assert!(found.contains("'blk.4.attn_norm.weight'"), "{found}");
}

#[test]
fn the_vocabulary_must_fit_the_embedding() {
    let found = refusal("llama", |tiny| {
        let tokens = (0..common::VOCAB + 1).map(|id| Value::String(format!("<{id}>"))).collect();
        tiny.set_full("tokenizer.ggml.tokens", Value::Array(tokens));
    });
    assert!(found.contains("token_embd.weight") && found.contains("65 tokens"), "{found}");
}

#[test]
fn frequency_factors_must_be_positive() {
    for factor in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let found = refusal("llama", |tiny| tiny.data("rope_freqs.weight")[3] = factor);
        assert!(found.contains("rope_freqs.weight"), "{factor}: {found}");
    }
}

#[test]
fn a_sliding_window_pattern_has_a_flag_for_each_layer() {
    let flags = |count| Value::Array(vec![Value::Bool(true); count]);
    let found = |pattern| {
        refusal("gemma3", |tiny| {
            tiny.set("attention.sliding_window_pattern", pattern);
        })
    };
    assert!(found(flags(3)).contains("3 flags for 4 layers"));
    assert!(found(Value::F32(1.0)).contains("sliding_window_pattern"));
    assert_eq!(found(flags(4)), "nothing");
}

#[test]
fn an_unknown_architecture_is_named() {
    let found = refusal("mamba", |_| ());
    assert!(found.contains("'mamba'") && found.contains("gemma3"), "{found}");
}

#[test]
fn memory_is_told_before_loading() {
    let tiny = Tiny::new("llama", GgmlDType::F32, 1);
    let gguf = tiny.gguf();
    let need = memory_needed(&gguf, &options()).expect("a model");
    assert_eq!(need.weights, gguf.tensors().map(TensorInfo::bytes).sum::<u64>());
    // 4 layers, K and V, 2 heads of 16 f16 elements, 16 blocks of 32 tokens.
    assert_eq!(need.kv, 4 * 2 * 2 * 16 * 2 * 16 * 32);
    assert!(need.activations > 0);
    assert_eq!(need.total(), need.weights + need.kv + need.activations);
    let endless = reprise_model::LoadOptions { blocks: u32::MAX, batch: usize::MAX, ..options() };
    assert!(memory_needed(&gguf, &endless).expect("a model").total() > 1 << 40);
}
