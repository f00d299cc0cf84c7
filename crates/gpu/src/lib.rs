//! The WebGPU backend: [`Gpu`] implements [`reprise_compute::Backend`] over `wgpu`, natively and in a browser.
//!
//! A pass records operations; `finish` fuses them into a few dispatches ([`fuse`]), writes all parameters and step data
//! with two buffer writes, submits once and reads back once. Nothing is created on the device in the steady state:
//! pipelines are cached by name, bind groups by the buffers they bind. Arithmetic is f32 everywhere; KV is f16.

mod agreement;
mod backend;
mod buffer;
mod counters;
mod device;
mod error;
mod fuse;
mod kernel;
mod kv;
mod linear;
mod ops;
mod pass;
mod readback;
mod recorder;
mod rotations;
mod signal;
mod weights;

pub use agreement::is_rounding;
pub use backend::{Gpu, GpuHandle};
pub use buffer::GpuTensor;
pub use counters::Counters;
pub use device::GpuOptions;
pub use error::GpuError;
pub use kv::GpuKv;
pub use pass::GpuPass;
pub use weights::GpuWeight;
