//! The browser host: the engine behind wasm-bindgen, polled from the event loop of a worker.
//!
//! The twin of `reprise-server`: it has the clock, the model file, the slot images and the backend's choice, and no rule
//! of its own. Requests go through the very same `reprise_api::router`. The crate is empty on other targets.
#![cfg(target_arch = "wasm32")]

mod backend;
mod clock;
mod engine;
mod error;
mod events;
mod helpers;
mod host;
mod http;
mod info;
mod keeper;
mod load;
mod log;
mod memory;
mod options;
mod pace;
mod probe;
mod session;
mod settings;
mod sha256;
mod source;
mod store;
#[cfg(feature = "suite")]
mod suite;

use wasm_bindgen::prelude::wasm_bindgen;

pub use engine::Engine;
pub use helpers::run_helper;
pub use log::set_log;
pub use sha256::Sha256;
#[cfg(feature = "suite")]
pub use suite::{cpu_suite, gpu_suite};

#[wasm_bindgen(start)]
fn start() {
    log::start();
}
