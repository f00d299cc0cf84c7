struct Params { candidates: u32, count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> found: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<u32>>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // The best so far keep their places while the rest of the entries is filled with new candidates.
    var kept = 0u;
    for (var next = 0u; next < p.candidates; next += PIECE - kept) {
        kept = select(p.count, 0u, next == 0u);
        for (var i = thread; i < PIECE; i += SIZE) {
            if (i >= kept) {
                let candidate = next + i - kept;
                var entry = NOTHING;
                if (candidate < p.candidates) {
                    entry = found[group.y * p.candidates + candidate];
                }
                entries[i] = entry;
            }
        }
        workgroupBarrier();
        if (p.count == 1u) {
            best(thread);
        } else {
            sort(thread);
        }
    }
    if (thread < p.count) {
        out[group.y * p.count + thread] = vec2(bits_of(entries[thread].x), entries[thread].y);
    }
}
