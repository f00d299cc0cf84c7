//! scratch: writes fixtures that llama-server loads
mod common;
use common::*;
use reprise_gguf::*;
#[test]
#[ignore]
fn write() {
    for a in ARCHITECTURES {
        for d in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4_0] {
            let mut t = Tiny::new(a, d, 7);
            let mut tokens = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
            let mut types = vec![2, 3, 3];
            for b in 0..VOCAB - 3 {
                tokens.push(format!("<0x{b:02X}>"));
                types.push(6)
            }
            t.set_full("tokenizer.ggml.model", Value::String("llama".into()));
            t.set_full(
                "tokenizer.ggml.scores",
                Value::Array(tokens.iter().map(|_| Value::F32(0.0)).collect()),
            );
            t.set_full(
                "tokenizer.ggml.tokens",
                Value::Array(tokens.into_iter().map(Value::String).collect()),
            );
            t.set_full(
                "tokenizer.ggml.token_type",
                Value::Array(types.into_iter().map(Value::I32).collect()),
            );
            t.set_full("tokenizer.ggml.bos_token_id", Value::U32(1));
            t.set_full("tokenizer.ggml.eos_token_id", Value::U32(2));
            t.set_full("tokenizer.ggml.unknown_token_id", Value::U32(0));
            std::fs::write(format!("/tmp/w/model/tiny-{a}-{d:?}.gguf"), t.source().0).unwrap();
        }
    }
}
