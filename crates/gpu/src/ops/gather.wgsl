struct Params { width: u32, rows: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(128)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < p.width) {
        out[at.y * p.width + at.x] = x[step_data[p.rows + at.y] * p.width + at.x];
    }
}
