// One invocation for each word of a row, and for K and V: it moves its word of all cells, in the order that an overlap needs.
struct Params { source: u32, target_cell: u32, count: u32, row_words: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> cells: array<u32>;

fn place(cell: u32, part: u32) -> u32 {
    return ((cell / 32u * 2u + part) * 32u + cell % 32u) * p.row_words;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x >= p.row_words) {
        return;
    }
    for (var i = 0u; i < p.count; i++) {
        let step = select(p.count - 1u - i, i, p.target_cell < p.source);
        cells[place(p.target_cell + step, at.y) + at.x] = cells[place(p.source + step, at.y) + at.x];
    }
}
