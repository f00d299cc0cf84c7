struct Params { width: u32, activation: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}

fn gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + precise_tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
}

@compute @workgroup_size(SIZE)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < p.width) {
        let i = at.y * p.width + at.x;
        let value = x[i];
        x[i] = select(gelu(value), silu(value), p.activation == 0u) * y[i];
    }
}
