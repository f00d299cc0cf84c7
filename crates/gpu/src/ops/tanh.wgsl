// tanh to f32's precision everywhere: drivers may be wrong by 1e-5 relative, and overflow where the argument is large.
fn precise_tanh(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.25) {
        let s = x * x;
        return x * (1.0 + s * (-0.33333334 + s * (0.13333334 + s * (-0.053968254 + s * 0.021869488))));
    }
    let e = exp(-2.0 * a);
    return sign(x) * ((1.0 - e) / (1.0 + e));
}
