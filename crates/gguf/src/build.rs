//! Writes small GGUF files: fixtures and tests. Tensors are quantised by candle.

use std::borrow::Cow;
use std::io::{Cursor, Seek, Write};

use candle_core::quantized::{QStorage, QTensor, gguf_file};
use candle_core::{Device, Tensor};

use crate::{GgmlDType, GgufError, Value};

/// A GGUF file (version 2, alignment 32) in the making. Metadata and tensors are written in the order given, so the
/// same calls give the same bytes.
#[derive(Default)]
pub struct GgufBuilder {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
}

impl GgufBuilder {
    /// An empty file of this architecture.
    #[must_use]
    pub fn new(architecture: &str) -> Self {
        Self::default().metadata("general.architecture", Value::String(architecture.to_owned()))
    }

    /// Adds a metadata pair.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: Value) -> Self {
        self.metadata.push((key.into(), value));
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn string(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata(key, Value::String(value.into()))
    }

    /// Adds a `u32`.
    #[must_use]
    pub fn u32(self, key: impl Into<String>, value: u32) -> Self {
        self.metadata(key, Value::U32(value))
    }

    /// Adds an `f32`.
    #[must_use]
    pub fn f32(self, key: impl Into<String>, value: f32) -> Self {
        self.metadata(key, Value::F32(value))
    }

    /// Adds a truth value.
    #[must_use]
    pub fn bool(self, key: impl Into<String>, value: bool) -> Self {
        self.metadata(key, Value::Bool(value))
    }

    /// Adds an array of strings.
    #[must_use]
    pub fn strings(self, key: impl Into<String>, values: impl IntoIterator<Item: Into<String>>) -> Self {
        let values = values.into_iter().map(|value| Value::String(value.into())).collect();
        self.metadata(key, Value::Array(values))
    }

    /// Adds an array of `f32`.
    #[must_use]
    pub fn f32s(self, key: impl Into<String>, values: impl IntoIterator<Item = f32>) -> Self {
        self.metadata(key, Value::Array(values.into_iter().map(Value::F32).collect()))
    }

    /// Adds an array of `i32`.
    #[must_use]
    pub fn i32s(self, key: impl Into<String>, values: impl IntoIterator<Item = i32>) -> Self {
        self.metadata(key, Value::Array(values.into_iter().map(Value::I32).collect()))
    }

    /// Adds a tensor of `data`, row-major, stored as `dtype`. `dims` are outermost first.
    ///
    /// # Errors
    /// [`GgufError::Write`] when `data` does not fill `dims`, or the last of them is no multiple of the block size.
    pub fn tensor(
        mut self,
        name: impl Into<String>,
        dims: &[usize],
        dtype: GgmlDType,
        data: &[f32],
    ) -> Result<Self, GgufError> {
        let name = name.into();
        let tensor = Tensor::from_slice(data, dims, &Device::Cpu)
            .and_then(|tensor| QTensor::quantize(&tensor, dtype))
            .map_err(|error| GgufError::Write(format!("tensor '{name}': {error}")))?;
        self.tensors.push((name, tensor));
        Ok(self)
    }

    /// Adds a tensor of bytes that are already blocks of `dtype`. `dims` are outermost first.
    ///
    /// # Errors
    /// [`GgufError::Write`] when `data` does not fill `dims`, or the last of them is no multiple of the block size.
    pub fn stored(
        mut self,
        name: impl Into<String>,
        dims: &[usize],
        dtype: GgmlDType,
        data: &[u8],
    ) -> Result<Self, GgufError> {
        let name = name.into();
        let fault = |error: &dyn std::fmt::Display| GgufError::Write(format!("tensor '{name}': {error}"));
        let blocks = dims.iter().product::<usize>() / dtype.block_size();
        if data.len() != blocks * dtype.type_size() {
            return Err(fault(&format_args!("{} bytes do not fill {dims:?}", data.len())));
        }
        let tensor = QStorage::from_data(Cow::Borrowed(data), &Device::Cpu, dtype)
            .and_then(|storage| QTensor::new(storage, dims))
            .map_err(|error| fault(&error))?;
        self.tensors.push((name, tensor));
        Ok(self)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`GgufError::Write`] when the writer fails, or an array mixes types.
    pub fn write(&self, to: &mut (impl Write + Seek)) -> Result<(), GgufError> {
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(to, &metadata, &tensors).map_err(|error| GgufError::Write(error.to_string()))
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`GgufBuilder::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, GgufError> {
        let mut file = Cursor::new(Vec::new());
        self.write(&mut file)?;
        Ok(file.into_inner())
    }
}
