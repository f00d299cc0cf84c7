struct Params { width: u32, count: u32, pieces: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<u32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = thread; i < PIECE; i += SIZE) {
        let column = group.x * PIECE + i;
        var entry = NOTHING;
        if (column < p.width) {
            entry = vec2(key_of(x[group.y * p.width + column]), column);
        }
        entries[i] = entry;
    }
    workgroupBarrier();
    if (p.count == 1u) {
        best(thread);
    } else {
        sort(thread);
    }
    if (thread < p.count) {
        out[(group.y * p.pieces + group.x) * p.count + thread] = entries[thread];
    }
}
