//! Files for the tests: a good one, and one written field by field that may lie.

#![allow(dead_code, reason = "each test binary uses its part")]

use bytes::Bytes;
use futures::executor::block_on;
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{GgmlDType, Gguf, GgufError, MemorySource, Value};

/// Opens bytes as a model file.
pub(crate) fn open(bytes: impl Into<Bytes>) -> Result<Gguf, GgufError> {
    block_on(Gguf::open(&MemorySource(bytes.into())))
}

/// The text of the error that opening gives.
pub(crate) fn refusal(bytes: impl Into<Bytes>) -> String {
    open(bytes).expect_err("must be refused").to_string()
}

/// What holds for every file that opens, however it was damaged.
pub(crate) fn check_invariants(gguf: &Gguf, len: u64) {
    let mut end = 0;
    for tensor in gguf.tensors() {
        assert!(tensor.range.start >= end, "{tensor:?} overlaps");
        assert!(tensor.range.end <= len && tensor.range.start.is_multiple_of(8), "{tensor:?}");
        assert_eq!(tensor.dims.iter().product::<usize>(), tensor.elements());
        assert!(tensor.rows * tensor.cols > 0 && tensor.dims.last() == Some(&tensor.cols));
        let blocks = tensor.elements() / tensor.dtype.block_size();
        assert_eq!(tensor.bytes(), (blocks * tensor.dtype.type_size()) as u64);
        assert_eq!(gguf.find(&tensor.name), Some(tensor));
        end = tensor.range.end;
    }
}

/// Every tensor type that models use, an odd shape or two, and metadata of every kind.
pub(crate) fn sample() -> GgufBuilder {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let ramp: Vec<f32> = (0..512u16).map(|i| f32::from(i) / 256.0 - 1.0).collect();
    let mut file = GgufBuilder::new("llama")
        .string("general.name", "sample")
        .u32("llama.block_count", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .bool("tokenizer.ggml.add_bos_token", true)
        .strings("tokenizer.ggml.tokens", ["<unk>", "▁a", "b"])
        .f32s("tokenizer.ggml.scores", [0.0, -1.0, -2.0])
        .i32s("tokenizer.ggml.token_type", [2, 1, 1])
        .metadata("sample.i64", Value::I64(-5))
        .metadata("sample.bools", Value::Array(vec![Value::Bool(true), Value::Bool(false)]))
        .metadata("sample.empty", Value::Array(Vec::new()))
        .metadata("sample.nested", Value::Array(vec![Value::Array(vec![Value::U8(7)])]));
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        file = file.tensor(format!("blk.0.{dtype:?}"), &[2, 256], dtype, &ramp).expect("sample tensor");
    }
    file.tensor("vector", &[3], F32, &ramp[..3])
        .and_then(|file| file.tensor("cube", &[2, 4, 8], F16, &ramp[..64]))
        .expect("sample tensor")
}

/// A file written field by field, so that any field can lie.
#[derive(Default, Clone)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    /// Magic, version and the two counts.
    pub(crate) fn head(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn string(self, text: &str) -> Self {
        let mut file = self.u64(text.len() as u64);
        file.0.extend(text.as_bytes());
        file
    }

    /// A metadata entry with a `u32`.
    pub(crate) fn entry(self, key: &str, value: u32) -> Self {
        self.string(key).u32(4).u32(value)
    }

    /// A directory entry; `dims` in the order of the file, contiguous first.
    pub(crate) fn tensor(self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> Self {
        let file = self.string(name).u32(u32::try_from(dims.len()).expect("few dimensions"));
        dims.iter().fold(file, |file, &dim| file.u64(dim)).u32(dtype).u64(offset)
    }

    /// Pads to the alignment and appends `len` bytes of tensor data.
    pub(crate) fn data(mut self, len: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + len, 0);
        self.0
    }
}
