// One workgroup for each head of each cell.
struct Params { first: u32, row_words: u32, rotations: u32, pairs: u32, adjacent: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> cells: array<u32>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;

const SIZE: u32 = 64u;
const HEAD_WORDS: u32 = (HEAD_DIM + 1u) / 2u;
var<workgroup> head: array<f32, HEAD_WORDS * 2u>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let cell = p.first + group.y;
    let first = (cell / 32u * 64u + cell % 32u) * p.row_words + group.x * HEAD_WORDS;
    for (var i = thread; i < HEAD_WORDS; i += SIZE) {
        let pair = unpack2x16float(cells[first + i]);
        head[2u * i] = pair.x;
        head[2u * i + 1u] = pair.y;
    }
    workgroupBarrier();
    for (var i = thread; i < p.pairs; i += SIZE) {
        let a = select(i, 2u * i, p.adjacent == 1u);
        let b = select(i + p.pairs, 2u * i + 1u, p.adjacent == 1u);
        let cosine = bitcast<f32>(step_data[p.rotations + 2u * i]);
        let sine = bitcast<f32>(step_data[p.rotations + 2u * i + 1u]);
        let x = head[a];
        let y = head[b];
        head[a] = x * cosine - y * sine;
        head[b] = y * cosine + x * sine;
    }
    workgroupBarrier();
    for (var i = thread; i < HEAD_WORDS; i += SIZE) {
        cells[first + i] = pack_halves(head[2u * i], head[2u * i + 1u]);
    }
}
