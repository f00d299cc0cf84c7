//! Operations on rows of f32 that the compiler vectorises.

use super::Isa;
use super::math::{sigmoid, sum8, tanh};
use crate::Activation;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for each row of `weight.len()` elements.
pub(crate) fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len().max(1);
    isa.run(
        #[inline(always)]
        || {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let factor = inverse_rms(x, eps);
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * factor * weight;
                }
            }
        },
    );
}

/// As [`rms_norm`], in place.
pub(crate) fn rms_norm_in_place(isa: Isa, x: &mut [f32], weight: &[f32], eps: f32) {
    let width = weight.len().max(1);
    isa.run(
        #[inline(always)]
        || {
            for x in x.chunks_exact_mut(width) {
                let factor = inverse_rms(x, eps);
                for (x, weight) in x.iter_mut().zip(weight) {
                    *x = *x * factor * weight;
                }
            }
        },
    );
}

/// `gate = activation(gate) * up`.
pub(crate) fn gate(isa: Isa, gate: &mut [f32], up: &[f32], activation: Activation) {
    // sqrt(2 / pi), and the cubic term of the tanh approximation.
    const SCALE: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    isa.run(
        #[inline(always)]
        || match activation {
            Activation::Silu => {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = *gate * sigmoid(*gate) * up;
                }
            }
            Activation::Gelu => {
                for (gate, up) in gate.iter_mut().zip(up) {
                    let x = *gate;
                    // 0.5 * (1 + tanh(y)) = sigmoid(2 y)
                    *gate = x * sigmoid(2.0 * SCALE * x * (1.0 + CUBIC * x * x)) * up;
                }
            }
        },
    );
}

/// `x += y`.
pub(crate) fn add(isa: Isa, x: &mut [f32], y: &[f32]) {
    isa.run(
        #[inline(always)]
        || {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
        },
    );
}

/// `x *= factor`.
pub(crate) fn scale(isa: Isa, x: &mut [f32], factor: f32) {
    isa.run(
        #[inline(always)]
        || {
            for x in x {
                *x *= factor;
            }
        },
    );
}

/// `x = tanh(x / cap) * cap`.
pub(crate) fn softcap(isa: Isa, x: &mut [f32], cap: f32) {
    isa.run(
        #[inline(always)]
        || {
            for x in x {
                *x = tanh(*x / cap) * cap;
            }
        },
    );
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0f32; 8];
    let (groups, rest) = x.as_chunks::<8>();
    for group in groups {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane += x * x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    1.0 / (sum8(lanes) / x.len() as f32 + eps).sqrt()
}
