// One workgroup for each head of each row: the heads of q come first, then those of k, then those of v. A line that begins
// with a condition is there only in variants that have what it names.
struct Params {
    q_heads: u32,
    k_heads: u32,
    v_heads: u32,
    rotations: u32,
    pairs: u32,
    adjacent: u32,
    eps: f32,
    q_norm: u32,
    k_norm: u32,
    cells: u32,
    row_words: u32,
}
@group(0) @binding(0) var<uniform> p: Params;

const SIZE: u32 = 64u;
var<workgroup> head: array<f32, HEAD_DIM>;
var<workgroup> sums: array<f32, SIZE>;

const IN_Q: u32 = 0u;
const IN_K: u32 = 1u;
const IN_V: u32 = 2u;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let part = select(select(IN_V, IN_K, group.x < p.q_heads + p.k_heads), IN_Q, group.x < p.q_heads);
    let index = group.x - select(select(p.q_heads + p.k_heads, p.q_heads, part == IN_K), 0u, part == IN_Q);

    var square = 0.0;
    for (var i = thread; i < HEAD_DIM; i += SIZE) {
        var value = 0.0;
        /*? q */ if (part == IN_Q) { value = q[(row * p.q_heads + index) * HEAD_DIM + i]; }
        /*? k */ if (part == IN_K) { value = k[(row * p.k_heads + index) * HEAD_DIM + i]; }
        /*? v */ if (part == IN_V) { value = v[(row * p.v_heads + index) * HEAD_DIM + i]; }
        head[i] = value;
        square += value * value;
    }
    if (NORMS > 0u) {
        sums[thread] = square;
        workgroupBarrier();
        for (var half = SIZE / 2u; half > 0u; half /= 2u) {
            if (thread < half) {
                sums[thread] += sums[thread + half];
            }
            workgroupBarrier();
        }
        let factor = 1.0 / sqrt(sums[0] / f32(HEAD_DIM) + p.eps);
        for (var i = thread; i < HEAD_DIM; i += SIZE) {
            /*? q_norm */ if (part == IN_Q) { head[i] *= factor * q_norm[p.q_norm + i]; }
            /*? k_norm */ if (part == IN_K) { head[i] *= factor * k_norm[p.k_norm + i]; }
        }
    }
    workgroupBarrier();

    if (part != IN_V) {
        for (var i = thread; i < p.pairs; i += SIZE) {
            let a = select(i, 2u * i, p.adjacent == 1u);
            let b = select(i + p.pairs, 2u * i + 1u, p.adjacent == 1u);
            /*? rope */ let at = p.rotations + 2u * (row * p.pairs + i);
            /*? rope */ let cosine = bitcast<f32>(step_data[at]);
            /*? rope */ let sine = bitcast<f32>(step_data[at + 1u]);
            /*? rope */ let x = head[a];
            /*? rope */ let y = head[b];
            /*? rope */ head[a] = x * cosine - y * sine;
            /*? rope */ head[b] = y * cosine + x * sine;
        }
    }
    workgroupBarrier();

    if (part == IN_Q) {
        for (var i = thread; i < HEAD_DIM; i += SIZE) {
            /*? q */ q[(row * p.q_heads + index) * HEAD_DIM + i] = head[i];
        }
        return;
    }
    for (var i = thread; i < HEAD_DIM; i += SIZE) {
        /*? k_in_place */ k[(row * p.k_heads + index) * HEAD_DIM + i] = head[i];
    }
    const HEAD_WORDS = (HEAD_DIM + 1u) / 2u;
    for (var i = thread; i < HEAD_WORDS; i += SIZE) {
        var second = 0.0;
        if (2u * i + 1u < HEAD_DIM) {
            second = head[2u * i + 1u];
        }
        let word = pack_halves(head[2u * i], second);
        /*? store */ let cell = step_data[p.cells + row];
        /*? store */ let at = ((cell / 32u * 2u + part - IN_K) * 32u + cell % 32u) * p.row_words;
        /*? store */ cells[at + index * HEAD_WORDS + i] = word;
    }
}
