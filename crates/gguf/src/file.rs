//! A GGUF file: its metadata and its tensor directory.

use std::collections::HashMap;

use crate::{GgufError, Metadata, ModelSource, TensorInfo, header};

/// An opened model file. Holds no tensor data: that is read by the range of each [`TensorInfo`].
#[derive(Debug, Clone)]
pub struct Gguf {
    /// Hyper-parameters, vocabulary, chat template.
    pub metadata: Metadata,
    /// In the order in which the data lies in the file.
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Reads and checks the head of the file: versions 2 and 3, little-endian.
    ///
    /// # Errors
    /// [`GgufError`] when the file cannot be read, is no GGUF, is truncated or damaged, or has tensors of a type that
    /// is not supported. On success every tensor lies inside the file and no two overlap.
    pub async fn open(source: &impl ModelSource) -> Result<Self, GgufError> {
        let content = header::read(source).await?;
        let len = source.len();
        let metadata = Metadata::new(content.metadata);
        let alignment = header::alignment(&metadata)?;
        let mut tensors = content
            .tensor_infos
            .into_iter()
            .map(|(name, entry)| TensorInfo::check(name, &entry, content.tensor_data_offset, alignment, len))
            .collect::<Result<Vec<_>, _>>()?;
        tensors.sort_by(|a, b| (a.range.start, &a.name).cmp(&(b.range.start, &b.name)));
        if let Some([before, after]) = tensors.array_windows().find(|[a, b]| a.range.end > b.range.start) {
            let reason = format!("overlaps tensor '{}'", after.name);
            return Err(GgufError::Tensor { tensor: before.name.clone(), reason });
        }
        let by_name =
            tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
        Ok(Self { metadata, tensors, by_name })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.find(name).ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
    }

    /// The tensor of this name, if the file has it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// All tensors, in the order in which their data lies in the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }
}
