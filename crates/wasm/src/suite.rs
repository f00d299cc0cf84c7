//! The op suites as exports, for a run in a real browser.

use reprise_compute::Cpu;
use reprise_compute::reference::Rounding;
use reprise_compute::suite::{Report, batch_invariance, run_all};
use reprise_gpu::{Gpu, GpuOptions, is_rounding};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::to_js;
use crate::error::{Failure, Kind};

/// `{name, passed, failures}`, a variant of a backend each.
#[derive(Debug, Serialize)]
struct Outcome {
    name: String,
    passed: usize,
    failures: Vec<String>,
}

impl Outcome {
    fn new(name: String, reports: [Report; 2]) -> Self {
        let passed = reports.iter().map(|report| report.passed).sum();
        let failures = reports.into_iter().flat_map(|report| report.failures).collect();
        Self { name, passed, failures }
    }
}

/// Runs the suite on the processor's backend: `[{name, passed, failures}]`.
///
/// # Errors
/// None that is known.
#[wasm_bindgen]
pub async fn cpu_suite() -> Result<JsValue, JsValue> {
    let make = || Cpu::new(1);
    let reports = [run_all(make, Rounding::EightBit).await, batch_invariance(make).await];
    to_js(&[Outcome::new(reprise_compute::Backend::name(&make()), reports)])
}

/// Runs the suite on the GPU with the kernels of one variant (`plain`, `subgroups`, `dot4`, `f16`): `[{name, passed,
/// failures}]`, nothing where the adapter does not have it.
///
/// # Errors
/// A `RepriseError` when there is no GPU or no such variant.
#[wasm_bindgen]
pub async fn gpu_suite(variant: String) -> Result<JsValue, JsValue> {
    let plain = GpuOptions::plain();
    let options = match variant.as_str() {
        "plain" => plain,
        "subgroups" => GpuOptions { subgroups: true, ..plain },
        "dot4" => GpuOptions { dot4: true, ..plain },
        "f16" => GpuOptions { f16: true, ..plain },
        _ => return Err(Failure::new(Kind::Options, format!("there is no variant '{variant}'")).into()),
    };
    let gpu = Gpu::open(&options)
        .await
        .map_err(|error| JsValue::from(Failure::new(Kind::Gpu, error.to_string())))?;
    if gpu.features() != options {
        return to_js::<[Outcome; 0]>(&[]);
    }
    let make = || gpu.clone();
    let mut ops = run_all(make, Rounding::Exact).await;
    let before = ops.failures.len();
    ops.failures.retain(|failure| !is_rounding(failure, &gpu.features()));
    ops.passed += before - ops.failures.len();
    let reports = [ops, batch_invariance(make).await];
    to_js(&[Outcome::new(variant, reports)])
}
