//! How far the variants may be from the op suite's reference, which knows exact activations only.

use crate::GpuOptions;

/// Relative to what the suite states for matrix products.
const SUITE_TOLERANCE: f64 = 1e-5;

/// Whether a failure of [`reprise_compute::suite`] is what a variant is meant to do: a matrix product that is off by no more
/// than its roundings explain. For hosts that run the suite on this backend.
///
/// Products are off by up to 3% of their root mean square where activations are rounded to 8 bits, and by 1% where they
/// are f16: the largest error of some thousand.
#[must_use]
pub fn is_rounding(failure: &str, variant: &GpuOptions) -> bool {
    let tolerance = match variant {
        GpuOptions { dot4: true, .. } => 3e-2,
        GpuOptions { f16: true, .. } => 1e-2,
        _ => return false,
    };
    let Some((_, numbers)) = failure.split_once(": off by ").filter(|_| failure.starts_with("linear "))
    else {
        return false;
    };
    let numbers: Vec<f64> = numbers.split(", allowed ").filter_map(|number| number.parse().ok()).collect();
    matches!(numbers[..], [off, allowed] if off <= allowed / SUITE_TOLERANCE * tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_products_may_be_further_off() {
        let f16 = GpuOptions { f16: true, ..GpuOptions::plain() };
        let small = "linear x: 1 for 2 at 0: off by 9.900e-3, allowed 1.000e-5";
        assert!(is_rounding(small, &f16));
        assert!(!is_rounding(small, &GpuOptions::plain()));
        assert!(!is_rounding("linear x: 1 for 2 at 0: off by 1.100e-2, allowed 1.000e-5", &f16));
        assert!(!is_rounding("Norm: 1 for 2 at 0: off by 1.000e-5, allowed 1.000e-6", &f16));
        assert!(!is_rounding("linear x: 3 values for 4", &f16));
    }
}
