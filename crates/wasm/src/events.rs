//! What the page is told while the engine lives.

use serde::Serialize;

use crate::host::Host;

/// An event, `{type, ...}` in JavaScript.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum HostEvent {
    /// Which arithmetic was taken and why.
    Backend { backend: &'static str, name: String, reason: String },
    /// Whether slots are stored by themselves, and if not, why.
    Persistence { enabled: bool, reason: String },
    /// Slots that came back from their images at the start.
    Restored { slots: Vec<MovedSlot> },
    /// Slots whose images were written.
    Saved { slots: Vec<MovedSlot> },
    /// The GPU is gone; requests are answered with 503 until it is back.
    DeviceLost { message: String },
    /// The model is loaded again, and these slots with it.
    DeviceRestored { slots: Vec<MovedSlot> },
    /// The model could not be loaded again: the engine answers 503 from now on.
    DeviceGone { message: String },
}

/// A slot that went to its image or came from it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MovedSlot {
    pub slot: u32,
    pub tokens: u32,
    pub bytes: f64,
    /// Milliseconds.
    pub ms: f64,
}

impl HostEvent {
    pub(crate) fn tell(&self, host: &Host) {
        match serde_wasm_bindgen::to_value(self) {
            Ok(value) => host.event(&value),
            Err(error) => tracing::error!(%error, "an event was lost"),
        }
    }
}
