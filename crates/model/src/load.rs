//! From a GGUF file to a model that can run.

use reprise_compute::{Backend, Readout};
use reprise_gguf::{Gguf, ModelSource, TensorInfo};

use crate::activations::Activations;
use crate::arch::Network;
use crate::file_type::file_type;
use crate::fingerprint::fingerprint;
use crate::hparams::{HyperParameters, Keys};
use crate::memory::kv_bytes;
use crate::model::Limits;
use crate::rope::RopeParameters;
use crate::weights::WeightLoader;
use crate::{LoadOptions, Model, ModelError, ModelInfo};

/// Loads the model of a file. Buffers are taken only after every weight was found to have the shape that the metadata
/// asks for, so that a lying file costs no memory beyond its own size.
///
/// # Errors
/// [`ModelError`], naming the metadata key or the tensor at fault.
pub async fn load<B: Backend>(
    source: &impl ModelSource,
    gguf: &Gguf,
    backend: B,
    options: LoadOptions,
) -> Result<Model<B>, ModelError> {
    let mut options = options;
    let hparams = HyperParameters::read(gguf)?;
    let keys = Keys { metadata: &gguf.metadata, architecture: hparams.architecture };
    let rope = RopeParameters::read(keys, options.rope)?;
    let name = gguf.metadata.opt_string("general.name")?.unwrap_or_default().to_owned();
    let file_type = file_type(gguf)?;

    let mut weights = WeightLoader::new(source, gguf, &backend, options.progress.take());
    let network = Network::load(&mut weights, &hparams, keys, rope).await?;
    let shape = hparams.kv_shape(&options);
    let fingerprint = fingerprint(gguf, &hparams, shape, &network, &weights.into_samples());

    if usize::try_from(kv_bytes(shape, options.blocks)).is_err() {
        let bytes = kv_bytes(shape, options.blocks);
        return Err(ModelError::Invalid(format!(
            "{bytes} bytes of KV memory cannot be addressed: ask for less context"
        )));
    }
    let kv = backend.kv(shape, options.blocks)?;
    let activations = Activations::new(&backend, &hparams, &options)?;
    let info = ModelInfo {
        architecture: hparams.architecture.name().to_owned(),
        name,
        file_type,
        vocab: hparams.vocab,
        embedding: hparams.width,
        train_context: hparams.train_context,
        parameters: gguf.tensors().map(|tensor| tensor.elements() as u64).sum(),
        bytes: gguf.tensors().map(TensorInfo::bytes).sum(),
        kv: shape,
        windowed: (0..hparams.layers).any(|layer| network.attention(layer).1.window.is_some()),
        fingerprint,
        backend: backend.name(),
    };
    let limits = Limits { blocks: options.blocks, batch: options.batch, logit_rows: options.logit_rows };
    Ok(Model { backend, network, kv, activations, readout: Readout::default(), info, limits })
}
