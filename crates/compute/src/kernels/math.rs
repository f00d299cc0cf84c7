//! Elementary functions that the compiler can vectorise: straight-line f32 arithmetic, the same bits on every target.

/// `e^x` to about 2 units in the last place; 0 below -87, infinity above 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Taylor coefficients; |r| <= ln(2) / 2 keeps the first omitted term below 6e-9.
    const C: [f32; 7] = [1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];

    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let tail = (((((C[6] * r + C[5]) * r + C[4]) * r + C[3]) * r + C[2]) * r + C[1]) * r * r + r;
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127);
    let power = f32::from_bits(exponent << 23);
    let value = (tail + C[0]) * power;
    if x < -87.0 {
        0.0
    } else if x > 88.0 {
        f32::INFINITY
    } else {
        value
    }
}

/// Logistic function.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent, to about 5e-7 of its value.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Near 0 the exponential form loses digits; there the Taylor series has them all.
    let square = x * x;
    let series =
        ((62.0 / 2835.0 * square - 17.0 / 315.0) * square + 2.0 / 15.0) * square * square - square / 3.0;
    if x.abs() < 0.3 { x + x * series } else { 1.0 - 2.0 / (1.0 + exp(2.0 * x)) }
}

/// The larger of two numbers; `b` when either is NaN. One instruction, where [`f32::max`] takes three.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Sum of eight lanes as a tree of neighbours.
#[inline(always)]
pub(crate) fn sum8(lanes: [f32; 8]) -> f32 {
    tree8(lanes, |a, b| a + b)
}

/// Eight lanes joined as a tree of neighbours.
#[inline(always)]
pub(crate) fn tree8(lanes: [f32; 8], join: impl Fn(f32, f32) -> f32) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    join(join(join(a, b), join(c, d)), join(join(e, f), join(g, h)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_over_its_whole_range() {
        let mut worst = 0f64;
        let mut x = -86.9f32;
        while x < 87.9 {
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
            x += 0.0137;
        }
        assert!(worst < 2.5e-7, "relative error {worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e9), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_and_sigmoid_saturate() {
        for x in [-100.0f32, -3.0, -0.301, -0.299, -1e-3, 0.0, 1e-6, 0.1, 0.7, 20.0, 100.0] {
            let exact = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 5e-7 * exact.abs(), "tanh({x})");
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() < 2e-7, "sigmoid({x})");
        }
    }
}
