//! What an engine says of itself.

use reprise_engine::EngineHandle;
use reprise_gpu::{Counters, GpuHandle};
use serde::Serialize;

/// `EngineInfo` of the package.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EngineInfo {
    backend: &'static str,
    /// With its threads, vectors or adapter.
    backend_name: String,
    backend_reason: String,
    model: ModelFacts,
    slots: u32,
    /// Tokens of one slot.
    context: u32,
    vocab: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<GpuCounters>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ModelFacts {
    name: String,
    architecture: String,
    file_type: String,
    parameters: f64,
    bytes: f64,
    train_context: u32,
    /// Hexadecimal; images of another fingerprint do not fit.
    fingerprint: String,
}

/// What was done on the device since it was opened.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GpuCounters {
    dispatches: f64,
    submits: f64,
    readbacks: f64,
    bytes_read: f64,
    bytes_written: f64,
    buffers: f64,
    bind_groups: f64,
    pipelines: f64,
}

impl EngineInfo {
    pub(crate) fn new(
        handle: &EngineHandle,
        gpu: Option<&GpuHandle>,
        backend: &'static str,
        reason: &str,
    ) -> Self {
        let model = handle.model();
        Self {
            backend,
            backend_name: model.backend.clone(),
            backend_reason: reason.to_owned(),
            model: ModelFacts {
                name: model.name.clone(),
                architecture: model.architecture.clone(),
                file_type: model.file_type.clone(),
                parameters: model.parameters as f64,
                bytes: model.bytes as f64,
                train_context: model.train_context,
                fingerprint: model.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
            slots: handle.config().slots,
            context: handle.config().slot_context,
            vocab: model.vocab,
            counters: gpu.map(|gpu| gpu.counters().into()),
        }
    }
}

impl From<Counters> for GpuCounters {
    fn from(counters: Counters) -> Self {
        Self {
            dispatches: counters.dispatches as f64,
            submits: counters.submits as f64,
            readbacks: counters.readbacks as f64,
            bytes_read: counters.bytes_read as f64,
            bytes_written: counters.bytes_written as f64,
            buffers: counters.buffers as f64,
            bind_groups: counters.bind_groups as f64,
            pipelines: counters.pipelines as f64,
        }
    }
}
