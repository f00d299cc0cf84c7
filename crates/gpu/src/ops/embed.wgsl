// One invocation looks up 32 elements of a token's row, of the tokens that lie in this part of the table.
struct Params {
    cols: u32,
    tokens: u32,
    scale: f32,
    base: u32,
    row_quads: u32,
    first: u32,
    rows: u32,
    groups: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight_0: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> step_data: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let token = step_data[p.tokens + at.y];
    if (at.x >= p.groups || token < p.first || token - p.first >= p.rows) {
        return;
    }
    let row = p.base + (token - p.first) * p.row_quads;
    var values = values_0(row, p.groups, at.x);
    for (var i = 0u; i < 32u; i++) {
        let column = at.x * 32u + i;
        if (column < p.cols) {
            out[at.y * p.cols + column] = values[i / 4u][i % 4u] * p.scale;
        }
    }
}
