//! Why there is no GPU backend.

/// A GPU that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// No adapter: no GPU, no driver, or a browser without WebGPU.
    #[error("no GPU adapter was found: {0}")]
    Adapter(String),
    /// An adapter that gives no device.
    #[error("the GPU '{adapter}' gave no device: {reason}")]
    Device {
        /// The adapter's name.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// An adapter below what the kernels need.
    #[error("the GPU '{adapter}' allows {found} {what}, but {wanted} are needed")]
    Limit {
        /// The adapter's name.
        adapter: String,
        /// Which limit.
        what: &'static str,
        /// What the kernels need.
        wanted: u64,
        /// What the adapter allows.
        found: u64,
    },
}
