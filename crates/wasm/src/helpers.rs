//! Threads of the processor's backend: workers that the host starts on the module's shared memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reprise_compute::{Cpu, HelperThread};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::host::Host;

/// Helpers that wait for their worker, by the number that it is told. Memory that all workers see.
static WAITING: Mutex<BTreeMap<u32, HelperThread>> = Mutex::new(BTreeMap::new());

/// A backend on `threads` threads; on one where the module has no shared memory or the host starts no workers.
pub(crate) fn cpu(threads: usize, host: &Host) -> Cpu {
    if !cfg!(target_feature = "atomics") {
        return Cpu::new(1);
    }
    Cpu::with_helpers(threads, |helper| host.spawn(leave(helper)))
}

/// Runs one of the backend's threads until the backend is gone: what a worker calls with the number that `host.spawn`
/// got, after it has started the module on the same memory.
#[wasm_bindgen]
pub fn run_helper(number: u32) {
    let helper = WAITING.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    if let Some(helper) = helper {
        helper.run();
    }
}

fn leave(helper: HelperThread) -> u32 {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let number = waiting.last_key_value().map_or(1, |(last, _)| last + 1);
    waiting.insert(number, helper);
    number
}
