//! Tensor operations: the [`Backend`] seam, the CPU backend and its kernels, the op test suite.
//!
//! [`Cpu`] is what ships; [`reference::Reference`] says in f64 what every operation means; [`suite`] holds any backend
//! against it. `NOTES.md` beside this crate tells what was tried for speed and what came of it.

mod backend;
mod cpu;
mod error;
mod kernels;
mod kv_shape;
pub mod reference;
mod source;
pub mod suite;
mod top;

pub use backend::{
    Activation, Attention, BLOCK_TOKENS, Backend, Cell, CellRun, MAX_TOP, Pairing, Pass, Projection,
    Readback, Readout, Rope, SequenceLayout, StepLayout,
};
pub use cpu::{Cpu, CpuKv, CpuPass, CpuTensor, CpuWeight, HelperThread, Roof};
pub use error::ComputeError;
pub use kv_shape::{KvShape, KvType};
