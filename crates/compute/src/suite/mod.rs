//! One suite for every backend: each operation against the [`Reference`], with the tolerance stated where the operation is
//! described.
//!
//! A backend's crate calls [`run_all`] (and [`batch_invariance`], if it promises that) from its tests, natively or in a
//! browser, and fails on a report with failures.

mod attention;
mod cells;
mod elementwise;
mod inputs;
mod invariance;
mod linear;
mod top;

use std::fmt;

use crate::reference::{Reference, Rounding};
use crate::{Backend, ComputeError};

/// What a run of the suite found.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that agreed.
    pub passed: usize,
    /// For each case that did not: its name and how it differs.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cases agree, {} do not", self.passed, self.failures.len())?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}

/// Runs every operation on a fresh backend of `make` and on the reference, which rounds activations by `rounding`.
pub async fn run_all<B: Backend>(make: impl Fn() -> B, rounding: Rounding) -> Report {
    let mut run = Run { make, rounding, report: Report::default() };
    linear::cases(&mut run).await;
    elementwise::cases(&mut run).await;
    attention::cases(&mut run).await;
    cells::cases(&mut run).await;
    top::cases(&mut run).await;
    run.report
}

/// As [`run_all`], of KV memory that is not f16, which a backend need not have.
pub async fn run_quantised_kv<B: Backend>(make: impl Fn() -> B) -> Report {
    let mut run = Run { make, rounding: Rounding::Exact, report: Report::default() };
    attention::quantised_cases(&mut run).await;
    cells::quantised_cases(&mut run).await;
    run.report
}

/// Checks by equality that a token's results do not depend on the tokens evaluated beside it.
pub async fn batch_invariance<B: Backend>(make: impl Fn() -> B) -> Report {
    let mut report = Report::default();
    invariance::linear(&make, &mut report).await;
    invariance::attention(&make, &mut report).await;
    report
}

/// One computation that two backends are asked for.
trait Case {
    /// The operation and its parameters.
    fn name(&self) -> String;

    /// Largest difference that passes, as a part of the root mean square of the expected values.
    fn tolerance(&self) -> f64;

    /// What the backend makes of the case's inputs.
    async fn compute<B: Backend>(&self, backend: &mut B) -> Result<Vec<f32>, ComputeError>;
}

/// A suite at work on one backend.
struct Run<F> {
    make: F,
    rounding: Rounding,
    report: Report,
}

impl<B: Backend, F: Fn() -> B> Run<F> {
    async fn check(&mut self, case: &impl Case) {
        let found = case.compute(&mut (self.make)()).await;
        let wanted = case.compute(&mut Reference::new(self.rounding)).await;
        let outcome = match (found, wanted) {
            (Ok(found), Ok(wanted)) => compare(&found, &wanted, case.tolerance()),
            (Err(found), Err(wanted)) => {
                let same = std::mem::discriminant(&found) == std::mem::discriminant(&wanted);
                same.then_some(()).ok_or_else(|| format!("error `{found}` for `{wanted}`"))
            }
            (Ok(_), Err(wanted)) => Err(format!("no error for `{wanted}`")),
            (Err(found), Ok(_)) => Err(format!("error `{found}`")),
        };
        self.report.add(&case.name(), outcome);
    }
}

impl Report {
    fn add(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(how) => self.failures.push(format!("{name}: {how}")),
        }
    }
}

fn compare(found: &[f32], wanted: &[f32], tolerance: f64) -> Result<(), String> {
    if found.len() != wanted.len() {
        return Err(format!("{} values for {}", found.len(), wanted.len()));
    }
    let squares: f64 = wanted.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
    let allowed = tolerance * (squares / wanted.len().max(1) as f64).sqrt();
    let differences = found.iter().zip(wanted).map(|(&f, &w)| (f64::from(f) - f64::from(w)).abs());
    let (at, worst) = differences.enumerate().fold((0, 0.0), |worst, (at, difference)| {
        // A NaN is never larger, so it is asked for by name.
        if difference > worst.1 || difference.is_nan() { (at, difference) } else { worst }
    });
    if worst <= allowed {
        return Ok(());
    }
    Err(format!("{} for {} at {at}: off by {worst:.3e}, allowed {allowed:.3e}", found[at], wanted[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_sees_what_differs() {
        assert!(compare(&[1.0, 2.0], &[1.0, 2.0], 0.0).is_ok());
        assert!(compare(&[1.0, 2.001], &[1.0, 2.0], 1e-2).is_ok());
        assert!(compare(&[1.0, 2.001], &[1.0, 2.0], 1e-5).is_err());
        assert!(compare(&[f32::NAN, 2.0], &[1.0, 2.0], 1.0).is_err());
        assert!(compare(&[1.0], &[1.0, 2.0], 1.0).is_err());
    }

    #[test]
    fn the_reference_agrees_with_itself() {
        let report = futures::executor::block_on(run_quantised_kv(|| Reference::new(Rounding::Exact)));
        assert!(report.failures.is_empty() && report.passed > 10, "{report}");
        let report =
            futures::executor::block_on(run_all(|| Reference::new(Rounding::Exact), Rounding::Exact));
        assert!(report.failures.is_empty() && report.passed > 100, "{report}");
    }

    #[test]
    fn rounded_activations_are_told_from_exact_ones() {
        let run = run_all(|| Reference::new(Rounding::Exact), Rounding::EightBit);
        assert!(!futures::executor::block_on(run).failures.is_empty());
    }
}
