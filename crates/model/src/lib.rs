//! GGUF architectures as passes over a `Backend`, behind the [`Forward`] seam.
//!
//! [`load`] turns a GGUF file into a [`Model`]: it reads the hyper-parameters, checks every tensor's shape before it
//! is used, hands the weights to a backend and takes the KV memory. [`memory_needed`] says beforehand what that will
//! cost. Each architecture is one file under `arch/` that reads as its forward pass, top to bottom.

mod activations;
mod arch;
mod error;
mod file_type;
mod fingerprint;
mod forward;
mod head;
mod hparams;
mod load;
mod memory;
mod model;
mod options;
mod rope;
mod weights;

pub use error::ModelError;
pub use forward::{CellShift, Forward, ModelInfo, Output, Scores, Sequence, StepOutput, Top};
pub use load::load;
pub use memory::{MemoryNeed, memory_needed};
pub use model::Model;
pub use options::{LoadOptions, LoadProgress, RopeOverrides, RopeScaling};
pub use reprise_compute::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape, KvType, MAX_TOP};
