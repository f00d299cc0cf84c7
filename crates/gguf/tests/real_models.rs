//! Facts about two published models, read from the files in the folder that `REPRISE_MODELS` names.

mod support;

use std::path::PathBuf;

use reprise_gguf::{GgmlDType, Gguf};
use support::{check_invariants, open};

fn model(name: &str) -> Gguf {
    let folder = std::env::var_os("REPRISE_MODELS").expect("REPRISE_MODELS names the folder with the models");
    let path = PathBuf::from(folder).join(name);
    #[allow(clippy::disallowed_methods, reason = "a test is its own host")]
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let len = bytes.len() as u64;
    let gguf = open(bytes).expect("a published model");
    check_invariants(&gguf, len);
    gguf
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn smollm2_135m_instruct_q4_1() {
    let gguf = model("SmolLM2-135M-Instruct.Q4_1.gguf");
    assert_eq!(gguf.metadata.architecture().unwrap(), "llama");
    assert_eq!(gguf.metadata.u32("llama.block_count").unwrap(), 30);
    assert_eq!(gguf.metadata.f32("llama.rope.freq_base").unwrap(), 100_000.0);
    assert_eq!(gguf.metadata.string("tokenizer.ggml.pre").unwrap(), "smollm");
    assert!(!gguf.metadata.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 49152);
    assert_eq!(gguf.metadata.strings("tokenizer.ggml.merges").unwrap()[2], "i n");
    assert_eq!(gguf.tensors().len(), 272);
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.dtype, embedding.rows, embedding.cols), (GgmlDType::Q8_0, 49152, 576));
    let down = gguf.tensor("blk.0.ffn_down.weight").unwrap();
    assert_eq!((down.dtype, down.rows, down.cols), (GgmlDType::Q4_1, 576, 1536));
    assert!(gguf.find("output.weight").is_none(), "the head is tied");
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn gemma_3_270m_q4_k_m() {
    let gguf = model("gemma-3-270m-Q4_K_M.gguf");
    assert_eq!(gguf.metadata.architecture().unwrap(), "gemma3");
    assert_eq!(gguf.metadata.u32("gemma3.attention.sliding_window").unwrap(), 512);
    assert_eq!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap()[..3], ["<pad>", "<eos>", "<bos>"]);
    assert_eq!(gguf.metadata.f32s("tokenizer.ggml.scores").unwrap().len(), 262_144);
    assert_eq!(gguf.metadata.u32s("tokenizer.ggml.token_type").unwrap()[..6], [3, 3, 3, 3, 3, 4]);
    assert_eq!(gguf.tensors().len(), 236);
    let output = gguf.tensor("blk.0.attn_output.weight").unwrap();
    assert_eq!((output.dtype, output.rows, output.cols), (GgmlDType::Q4K, 640, 1024));
    assert_eq!(gguf.tensor("blk.0.attn_q.weight").unwrap().dtype, GgmlDType::Q5_0);
    assert_eq!(gguf.tensor("blk.0.ffn_down.weight").unwrap().dtype, GgmlDType::Q6K);
}
