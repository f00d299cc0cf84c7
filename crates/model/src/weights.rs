//! From tensors of the file to weights of a backend: shapes are checked before a byte is read.

use std::collections::BTreeMap;

use reprise_compute::{Backend, Projection};
use reprise_gguf::{GgmlDType, Gguf, ModelSource, TensorInfo};

use crate::fingerprint::{read, sample};
use crate::{LoadProgress, ModelError};

/// `[out, in]` and, where the file has one, its bias.
#[derive(Debug)]
pub(crate) struct Linear<W> {
    pub(crate) weight: W,
    pub(crate) bias: Option<W>,
}

impl<W> Linear<W> {
    /// The projection into `out`.
    pub(crate) fn to<'a, T>(&'a self, out: &'a mut T) -> Projection<'a, W, T> {
        Projection { weight: &self.weight, bias: self.bias.as_ref(), out }
    }
}

/// Hands the tensors of a file to a backend, one at a time.
pub(crate) struct WeightLoader<'a, S, B> {
    source: &'a S,
    gguf: &'a Gguf,
    backend: &'a B,
    progress: Option<Box<dyn FnMut(LoadProgress)>>,
    done: LoadProgress,
    /// Digests of the tensors loaded so far, by name.
    samples: BTreeMap<String, blake3::Hash>,
}

impl<'a, S: ModelSource, B: Backend> WeightLoader<'a, S, B> {
    pub(crate) fn new(
        source: &'a S,
        gguf: &'a Gguf,
        backend: &'a B,
        progress: Option<Box<dyn FnMut(LoadProgress)>>,
    ) -> Self {
        let total = gguf.tensors().map(TensorInfo::bytes).sum();
        let done = LoadProgress { loaded: 0, total };
        Self { source, gguf, backend, progress, done, samples: BTreeMap::new() }
    }

    /// A matrix of `rows` outputs and `cols` inputs.
    ///
    /// # Errors
    /// [`ModelError`] when the tensor is missing, of another shape, unreadable or refused by the backend.
    pub(crate) async fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<B::Weight, ModelError> {
        let tensor = self.gguf.tensor(name)?;
        if tensor.dims != [rows, cols] {
            return Err(shape(tensor, format_args!("[{cols}, {rows}]")));
        }
        self.weight(tensor).await
    }

    /// A vector: a norm's weight or a bias.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    pub(crate) async fn vector(&mut self, name: &str, len: usize) -> Result<B::Weight, ModelError> {
        let tensor = self.gguf.tensor(name)?;
        check_vector(tensor, len)?;
        self.weight(tensor).await
    }

    /// `{name}.weight` and, where the file has it, `{name}.bias`.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    pub(crate) async fn linear(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Linear<B::Weight>, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), rows, cols).await?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias, rows).await?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// Whether the file has the tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.gguf.find(name).is_some()
    }

    /// The elements of an F32 vector that the model itself needs, if the file has it.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    pub(crate) async fn opt_floats(
        &mut self,
        name: &str,
        len: usize,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(tensor) = self.gguf.find(name) else { return Ok(None) };
        check_vector(tensor, len)?;
        if tensor.dtype != GgmlDType::F32 {
            return Err(ModelError::Invalid(format!("tensor '{name}' has type {:?}, not F32", tensor.dtype)));
        }
        self.sample(tensor).await?;
        let data = read(self.source, tensor.range.clone()).await?;
        self.taken(tensor);
        Ok(Some(
            data.chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect(),
        ))
    }

    /// Digests of all that was loaded.
    pub(crate) fn into_samples(self) -> BTreeMap<String, blake3::Hash> {
        self.samples
    }

    async fn weight(&mut self, tensor: &TensorInfo) -> Result<B::Weight, ModelError> {
        self.sample(tensor).await?;
        let range = tensor.range.clone();
        let weight = self.backend.weight(tensor.dtype, tensor.rows, tensor.cols, self.source, range).await;
        let weight = weight.map_err(|error| match ModelError::from(error) {
            ModelError::Compute(source) => ModelError::Tensor { tensor: tensor.name.clone(), source },
            error => error,
        })?;
        self.taken(tensor);
        Ok(weight)
    }

    /// Notes the digest of a tensor that is about to be used.
    async fn sample(&mut self, tensor: &TensorInfo) -> Result<(), ModelError> {
        let digest = sample(self.source, tensor.range.clone()).await?;
        self.samples.insert(tensor.name.clone(), digest);
        Ok(())
    }

    fn taken(&mut self, tensor: &TensorInfo) {
        self.done.loaded += tensor.bytes();
        if let Some(progress) = &mut self.progress {
            progress(self.done);
        }
    }
}

fn check_vector(tensor: &TensorInfo, len: usize) -> Result<(), ModelError> {
    if (tensor.rows, tensor.cols) == (1, len) { Ok(()) } else { Err(shape(tensor, format_args!("[{len}]"))) }
}

/// Shapes are told as other GGUF tools tell them, the contiguous dimension first.
fn shape(tensor: &TensorInfo, wanted: std::fmt::Arguments<'_>) -> ModelError {
    let found: Vec<_> = tensor.dims.iter().rev().collect();
    ModelError::Invalid(format!(
        "tensor '{}' has shape {found:?} where the metadata asks for {wanted}",
        tensor.name
    ))
}
