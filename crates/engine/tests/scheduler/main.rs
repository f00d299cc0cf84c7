//! The scheduler on a model without arithmetic and a clock moved by hand: one poll of the engine is one forward pass.

mod batching;
mod cancel;
mod copies;
mod device_lost;
mod embedding;
mod harness;
mod outputs;
mod property;
mod queue;
mod reuse;
mod slot_files;
mod speculation;
mod stopping;
mod tiers;
