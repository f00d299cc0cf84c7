struct Params { width: u32, unused: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < p.width) {
        let i = at.y * p.width + at.x;
        x[i] += y[i];
    }
}
