// One workgroup a row. ADD: the normed row is added to what `out` holds.
struct Params { width: u32, weight: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const SIZE: u32 = 128u;
var<workgroup> sums: array<f32, SIZE>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * p.width;
    var sum = 0.0;
    for (var i = thread; i < p.width; i += SIZE) {
        let value = x[first + i];
        sum += value * value;
    }
    sums[thread] = sum;
    workgroupBarrier();
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
        if (thread < half) {
            sums[thread] += sums[thread + half];
        }
        workgroupBarrier();
    }
    let factor = 1.0 / sqrt(sums[0] / f32(p.width) + p.eps);
    for (var i = thread; i < p.width; i += SIZE) {
        let value = x[first + i] * factor * weight[p.weight + i];
        if (ADD == 1u) {
            out[first + i] += value;
        } else {
            out[first + i] = value;
        }
    }
}
