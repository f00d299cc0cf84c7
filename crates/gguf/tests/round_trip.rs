//! What is written is what is read.

mod support;

use candle_core::quantized::gguf_file::Content;
use reprise_gguf::{GgmlDType, GgufError, Metadata, Value};
use support::{check_invariants, open, sample};

#[test]
fn metadata_comes_back_through_the_getter_of_its_type() {
    let metadata = open(sample().to_bytes().unwrap()).unwrap().metadata;
    assert_eq!(metadata.architecture().unwrap(), "llama");
    assert_eq!(metadata.string("general.name").unwrap(), "sample");
    assert_eq!(metadata.u32("llama.block_count").unwrap(), 2);
    assert_eq!(metadata.f32("llama.attention.layer_norm_rms_epsilon").unwrap(), 1e-5);
    assert!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap(), ["<unk>", "▁a", "b"]);
    assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap(), [0.0, -1.0, -2.0]);
    assert_eq!(metadata.u32s("tokenizer.ggml.token_type").unwrap(), [2, 1, 1]);
    assert_eq!(metadata.bools("sample.bools").unwrap(), [true, false]);
    assert_eq!(metadata.strings("sample.empty").unwrap(), Vec::<&str>::new());
    assert!(matches!(metadata.value("sample.nested"), Some(Value::Array(outer)) if outer.len() == 1));
    assert_eq!(metadata.iter().count(), 12);
}

#[test]
fn tensors_come_back_with_shape_type_and_bytes() {
    let bytes = sample().to_bytes().unwrap();
    let gguf = open(bytes.clone()).unwrap();
    check_invariants(&gguf, bytes.len() as u64);
    assert_eq!(gguf.tensors().len(), 15);

    let k_quant = gguf.tensor("blk.0.Q4K").unwrap();
    assert_eq!((k_quant.dtype, k_quant.rows, k_quant.cols), (GgmlDType::Q4K, 2, 256));
    assert_eq!(k_quant.bytes(), 2 * 144);
    let vector = gguf.tensor("vector").unwrap();
    assert_eq!((vector.rows, vector.cols, vector.dims.as_slice()), (1, 3, [3].as_slice()));
    let cube = gguf.tensor("cube").unwrap();
    assert_eq!((cube.rows, cube.cols, cube.dims.as_slice()), (8, 8, [2, 4, 8].as_slice()));

    let data = &bytes[vector.range.start as usize..vector.range.end as usize];
    let values: Vec<f32> = data.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    assert_eq!(values, [-1.0, -1.0 + 1.0 / 256.0, -1.0 + 2.0 / 256.0]);
}

#[test]
fn ranges_hold_what_candle_reads_for_every_type() {
    let bytes = sample().to_bytes().unwrap();
    let gguf = open(bytes.clone()).unwrap();
    let mut reader = std::io::Cursor::new(&bytes);
    let content = Content::read(&mut reader).unwrap();
    for tensor in gguf.tensors() {
        let read = content.tensor(&mut reader, &tensor.name, &candle_core::Device::Cpu).unwrap();
        let ours = &bytes[tensor.range.start as usize..tensor.range.end as usize];
        assert_eq!(&*read.data().unwrap(), ours, "{}", tensor.name);
        assert_eq!(read.shape().dims(), tensor.dims, "{}", tensor.name);
    }
}

#[test]
fn the_same_calls_write_the_same_bytes() {
    assert_eq!(sample().to_bytes().unwrap(), sample().to_bytes().unwrap());
}

#[test]
fn the_builder_refuses_data_that_does_not_fit() {
    let short = sample().tensor("short", &[2, 2], GgmlDType::F32, &[0.0; 3]);
    let ragged = sample().tensor("ragged", &[2, 16], GgmlDType::Q8_0, &[0.0; 32]);
    assert!(matches!(short, Err(GgufError::Write(reason)) if reason.contains("'short'")));
    assert!(matches!(ragged, Err(GgufError::Write(reason)) if reason.contains("'ragged'")));
    let stored = sample().stored("stored", &[2, 32], GgmlDType::Q8_0, &[0; 67]);
    assert!(matches!(stored, Err(GgufError::Write(reason)) if reason.contains("'stored'")));
}

#[test]
fn stored_blocks_are_written_as_they_are() {
    let blocks: Vec<u8> = (0..2 * 34).collect();
    let bytes = sample().stored("stored", &[2, 32], GgmlDType::Q8_0, &blocks).unwrap().to_bytes().unwrap();
    let gguf = open(bytes.clone()).unwrap();
    let tensor = gguf.tensor("stored").unwrap();
    assert_eq!((tensor.dtype, tensor.rows, tensor.cols), (GgmlDType::Q8_0, 2, 32));
    assert_eq!(bytes[tensor.range.start as usize..tensor.range.end as usize], blocks);
}

#[test]
fn missing_and_mistyped_keys_are_named() {
    let metadata = Metadata::new([
        ("word".to_owned(), Value::String("x".into())),
        ("big".to_owned(), Value::U64(1 << 40)),
        ("mixed".to_owned(), Value::Array(vec![Value::I32(1), Value::I32(-2)])),
    ]);
    assert_eq!(metadata.opt_u32("none").unwrap(), None);
    let texts = [
        (metadata.u32("none").unwrap_err(), "no metadata key 'none'"),
        (metadata.opt_u32("word").unwrap_err(), "'word' should be a whole number"),
        (metadata.u32("word").unwrap_err(), "the file has a string"),
        (metadata.u32("big").unwrap_err(), "the u64 1099511627776"),
        (metadata.u32s("mixed").unwrap_err(), "the i32 -2 at index 1"),
        (metadata.strings("word").unwrap_err(), "'word' should be an array of strings"),
        (metadata.architecture().unwrap_err(), "'general.architecture'"),
    ];
    for (error, part) in texts {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}
