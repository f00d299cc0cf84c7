//! The op suite of `compute` on whatever adapter the machine has, in every variant that the adapter offers.
//!
//! Without an adapter the tests fail: a software one (Mesa's lavapipe) is enough.

use futures::executor::block_on;
use reprise_compute::reference::Rounding;
use reprise_compute::suite::{self, Report};
use reprise_gpu::{Gpu, GpuOptions, is_rounding};

/// Runs the suite on clones of one device and says how it went. `excused` tells of a failure whether it is what the
/// variant is meant to do.
fn run(variant: &str, options: GpuOptions, excused: impl Fn(&str) -> bool) {
    let gpu = block_on(Gpu::open(&options)).expect("a GPU, or Mesa's lavapipe");
    let features = gpu.features();
    assert_eq!(
        (features.subgroups, features.dot4, features.f16),
        (options.subgroups, options.dot4, options.f16),
        "the adapter offers all that the variant asks for"
    );
    let mut report = block_on(suite::run_all(|| gpu.clone(), Rounding::Exact));
    let before = report.failures.len();
    report.failures.retain(|failure| !excused(failure));
    report.passed += before - report.failures.len();
    say(variant, &report);
    let invariance = block_on(suite::batch_invariance(|| gpu.clone()));
    say(&format!("{variant}, batch invariance"), &invariance);
    assert!(report.failures.is_empty() && invariance.failures.is_empty(), "{report}{invariance}");
}

#[allow(clippy::print_stdout)] // the test run repeats these lines
fn say(variant: &str, report: &Report) {
    println!("op suite native-gpu, {variant}: {} passed, {} failed", report.passed, report.failures.len());
}

#[test]
fn plain() {
    run("plain", GpuOptions::plain(), |_| false);
}

#[test]
fn subgroups() {
    run("subgroups", GpuOptions { subgroups: true, ..GpuOptions::plain() }, |_| false);
}

#[test]
fn activations_as_integers() {
    let options = GpuOptions { dot4: true, ..GpuOptions::plain() };
    run("dot4", options, |failure| is_rounding(failure, &options));
}

#[test]
fn products_in_f16() {
    let options = GpuOptions { f16: true, ..GpuOptions::plain() };
    run("f16", options, |failure| is_rounding(failure, &options));
}

#[test]
fn weights_split_by_a_small_binding_limit() {
    let options = GpuOptions { binding_limit: Some(16 * 1024), ..GpuOptions::plain() };
    // A row is never split.
    run("split weights", options, |failure| failure.contains("a row of a weight takes"));
}
