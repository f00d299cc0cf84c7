//! A GGUF file in another quantisation, made of the dequantised tensors of one: good enough to measure speed with.
//!
//! `cargo run --release -p reprise-gguf --example quantize -- source.gguf q5_0 target.gguf`. As llama.cpp does, vectors stay
//! f32; a matrix whose rows are no multiple of the type's block becomes Q8_0.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reads and writes files")]

use std::borrow::Cow;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use bytes::Bytes;
use candle_core::Device;
use candle_core::quantized::{QStorage, QTensor};
use futures::executor::block_on;
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{GgmlDType, Gguf, MemorySource, TensorInfo, Value};

/// Names, types and numbers of `general.file_type`.
const TYPES: [(&str, GgmlDType, u32); 11] = [
    ("f32", GgmlDType::F32, 0),
    ("f16", GgmlDType::F16, 1),
    ("bf16", GgmlDType::BF16, 32),
    ("q4_0", GgmlDType::Q4_0, 2),
    ("q4_1", GgmlDType::Q4_1, 3),
    ("q5_0", GgmlDType::Q5_0, 8),
    ("q5_1", GgmlDType::Q5_1, 9),
    ("q8_0", GgmlDType::Q8_0, 7),
    ("q4_k", GgmlDType::Q4K, 14),
    ("q5_k", GgmlDType::Q5K, 16),
    ("q6_k", GgmlDType::Q6K, 18),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, name, target] = arguments.as_slice() else {
        return Err("give a source, a type (f32, f16, q4_0, q4_k, ...) and a target".into());
    };
    let known = TYPES.iter().find(|(known, ..)| known == name);
    let &(_, dtype, file_type) = known.ok_or_else(|| format!("'{name}' is no type that this can write"))?;
    let bytes = Bytes::from(std::fs::read(source)?);
    let gguf = block_on(Gguf::open(&MemorySource(bytes.clone())))?;

    let mut builder = GgufBuilder::default();
    for (key, value) in gguf.metadata.iter() {
        let value = if key == "general.file_type" { Value::U32(file_type) } else { value.clone() };
        builder = builder.metadata(key, value);
    }
    for tensor in gguf.tensors() {
        let elements = dequantised(tensor, &bytes)?;
        let dtype = match tensor {
            TensorInfo { rows: 1, .. } => GgmlDType::F32,
            TensorInfo { cols, .. } if !cols.is_multiple_of(dtype.block_size()) => GgmlDType::Q8_0,
            _ => dtype,
        };
        builder = builder.tensor(&tensor.name, &tensor.dims, dtype, &elements)?;
    }
    builder.write(&mut BufWriter::new(File::create(target)?))?;
    println!("{target}: {} MB", std::fs::metadata(target)?.len() / 1_000_000);
    Ok(())
}

fn dequantised(tensor: &TensorInfo, file: &Bytes) -> Result<Vec<f32>, Box<dyn Error>> {
    let range = usize::try_from(tensor.range.start)?..usize::try_from(tensor.range.end)?;
    let storage = QStorage::from_data(Cow::Borrowed(&file[range]), &Device::Cpu, tensor.dtype)?;
    let elements = QTensor::new(storage, (tensor.rows, tensor.cols))?.dequantize(&Device::Cpu)?;
    Ok(elements.flatten_all()?.to_vec1()?)
}
