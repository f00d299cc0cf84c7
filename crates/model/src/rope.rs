//! Rotary position embeddings: the file's parameters, the host's overrides, and the frequencies they come to.

use reprise_compute::{Pairing, Rope};

use crate::hparams::Keys;
use crate::{ModelError, RopeOverrides, RopeScaling};

/// Base of the frequencies where a file names none.
pub(crate) const DEFAULT_BASE: f32 = 10_000.0;

/// What the frequencies of the layers with full attention follow from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RopeParameters {
    pub(crate) base: f32,
    /// Factor on positions.
    pub(crate) scale: f32,
}

impl RopeParameters {
    /// The file's parameters where the host overrides nothing.
    ///
    /// # Errors
    /// [`ModelError`] naming the key: a number out of range, or a scaling other than `none` and `linear`.
    pub(crate) fn read(keys: Keys<'_>, overrides: RopeOverrides) -> Result<Self, ModelError> {
        let base = keys.opt_positive("rope.freq_base")?.unwrap_or(DEFAULT_BASE);
        let scaling = match overrides.scaling {
            Some(scaling) => scaling,
            None => trained_scaling(keys)?,
        };
        // On Q and K alike, so that scores grow by its square; part of yarn and longrope.
        const MAGNITUDE: &str = "rope.scaling.attn_factor";
        if let Some(factor) = keys.opt_positive(MAGNITUDE)?.filter(|&factor| factor != 1.0) {
            return Err(keys.unsupported(MAGNITUDE, format_args!("is {factor}; only 1 is supported")));
        }
        let parameters = Self {
            base: overrides.freq_base.unwrap_or(base),
            scale: match scaling {
                RopeScaling::None => 1.0,
                RopeScaling::Linear => match overrides.freq_scale {
                    Some(scale) => scale,
                    None => trained_scale(keys)?,
                },
            },
        };
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if positive(parameters.base) && positive(parameters.scale) {
            Ok(parameters)
        } else {
            let Self { base, scale } = parameters;
            Err(ModelError::Invalid(format!("RoPE base {base} and scale {scale} must be positive numbers")))
        }
    }
}

fn trained_scaling(keys: Keys<'_>) -> Result<RopeScaling, ModelError> {
    const TYPE: &str = "rope.scaling.type";
    match keys.metadata.opt_string(&keys.name(TYPE))? {
        None | Some("linear") => Ok(RopeScaling::Linear),
        Some("none") => Ok(RopeScaling::None),
        Some(other) => Err(keys.unsupported(
            TYPE,
            format_args!("is '{other}'; supported are none and linear. Set one of them (--rope-scaling none) to load the model within its original context"),
        )),
    }
}

/// `1 / factor`; older files name the factor `rope.scale_linear`. Zero stands for none.
fn trained_scale(keys: Keys<'_>) -> Result<f32, ModelError> {
    for key in ["rope.scaling.factor", "rope.scale_linear"] {
        if let Some(factor) = keys.metadata.opt_f32(&keys.name(key))? {
            return Ok(if factor == 0.0 { 1.0 } else { 1.0 / factor });
        }
    }
    Ok(1.0)
}

/// Rotation of whole heads: pair `i` turns by `scale * base^(-2i / head_dim) / factors[i]` radians a position.
pub(crate) fn rope(
    pairing: Pairing,
    head_dim: usize,
    parameters: RopeParameters,
    factors: Option<&[f32]>,
) -> Rope {
    let RopeParameters { base, scale } = parameters;
    let frequency = |pair: usize| {
        let exponent = -2.0 * pair as f64 / head_dim as f64;
        let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
        (f64::from(base).powf(exponent) * f64::from(scale) / factor) as f32
    };
    Rope { pairing, inverse_frequencies: (0..head_dim / 2).map(frequency).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RopeParameters = RopeParameters { base: 10_000.0, scale: 1.0 };

    #[test]
    fn frequencies_fall_geometrically_from_one() {
        let rope = rope(Pairing::Halves, 8, PLAIN, None);
        let wanted = [1.0, 0.1, 0.01, 0.001];
        assert_eq!(rope.inverse_frequencies.len(), wanted.len());
        for (found, wanted) in rope.inverse_frequencies.iter().zip(wanted) {
            assert!((found / wanted - 1.0).abs() < 1e-6, "{found} for {wanted}");
        }
    }

    #[test]
    fn scale_multiplies_and_factors_divide() {
        let scaled = RopeParameters { scale: 0.5, ..PLAIN };
        let rope = rope(Pairing::Adjacent, 4, scaled, Some(&[2.0, 8.0]));
        assert_eq!(rope.inverse_frequencies, [0.25, 0.01 * 0.5 / 8.0]);
    }
}
