// Products of a tile of activation rows with a tile of weight rows.
//
// Eight lanes share an output: lane l sums the groups of 32 elements l, l + 8, l + 16 ... of the row, in order, and the eight
// sums are added as a tree. That order is the same for every number of rows, so a token's result does not depend on what
// is computed beside it. A chunk is what the lanes take at a time: 8 groups, 256 elements of every activation row of the
// tile, staged in workgroup memory.
{% set slots = rows * 64 // threads %}
{% set places = threads // 8 %}
{% set columns = weights | length * per if gate else per %}

struct Projection {
    outputs: u32,
    // From row to row of the output, and where this projection's first column lies in it.
    stride: u32,
    first: u32,
    // Of the weight, in units of 16 bytes.
    base: u32,
    row_quads: u32,
    bias: u32,
    tiles: u32,
    unused: u32,
}

struct Params {
    rows: u32,
    cols: u32,
    groups: u32,
    norm: u32,
    epsilon: f32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
    projections: array<Projection, {{ weights | length }}>,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<{{ "vec4<f32>" if aligned else "f32" }}>;
{% for v in range(vectors) %}
@group(0) @binding({{ 2 + v }}) var<storage, read> vector_{{ v }}: array<vec4<f32>>;
{% endfor %}
{% for _ in weights %}
@group(0) @binding({{ 2 + vectors + loop.index0 }}) var<storage, read> weight_{{ loop.index0 }}: array<vec4<u32>>;
{% endfor %}
{% for o in range(outs) %}
@group(0) @binding({{ 2 + vectors + weights | length + o }}) var<storage, read_write> out_{{ o }}: array<f32>;
{% endfor %}

{{ common }}
{% for weight in weights %}
{{ weight }}
{% endfor %}

var<workgroup> staged: array<{{ {"f32": "vec4<f32>", "f16": "vec4<f16>", "i8": "u32"}[mode] }}, {{ rows * 64 }}>;
{% if mode != "f32" %}
// The largest magnitude of each quad, and the scale of each group.
var<workgroup> peaks: array<f32, {{ rows * 64 }}>;
var<workgroup> scales: array<f32, {{ rows * 8 }}>;
{% endif %}
{% if norm is not none %}
var<workgroup> squares: array<f32, {{ rows * 64 }}>;
{% endif %}
{% if subgroup < 8 %}
var<workgroup> partials: array<f32, {{ threads * (columns + (1 if norm is not none else 0)) }}>;
{% endif %}

{% if quantised %}
fn load(which: u32, row: u32, group: u32) -> Group {
{% for _ in weights %}
{% if not loop.last %}
    if which == {{ loop.index0 }}u {
        return group_{{ loop.index0 }}(row, p.groups, group);
    }
{% else %}
    return group_{{ loop.index0 }}(row, p.groups, group);
{% endif %}
{% endfor %}
}
{% else %}
fn load_quad(which: u32, row: u32, group: u32, quad: u32) -> vec4<f32> {
{% for _ in weights %}
{% if not loop.last %}
    if which == {{ loop.index0 }}u {
        return quad_{{ loop.index0 }}(row, group, quad);
    }
{% else %}
    return quad_{{ loop.index0 }}(row, group, quad);
{% endif %}
{% endfor %}
}
{% endif %}

// Quad `quad` of an activation row; zero outside.
fn input(row: u32, quad: u32) -> vec4<f32> {
    let first = 4u * quad;
    if row >= p.rows || first >= p.cols {
        return vec4(0.0);
    }
{% if aligned %}
    return x[(row * p.cols + first) / 4u];
{% else %}
    let at = row * p.cols + first;
    let left = p.cols - first;
    return vec4(
        x[at],
        select(0.0, x[at + 1u], left > 1u),
        select(0.0, x[at + 2u], left > 2u),
        select(0.0, x[at + 3u], left > 3u),
    );
{% endif %}
}

{% if gate %}
fn activation(gate: f32) -> f32 {
{% if gate == "silu" %}
    // The bound keeps exp finite; its reciprocal is 0 in f32 long before.
    return gate / (1.0 + exp(min(-gate, 80.0)));
{% else %}
    // tanh is 1 in f32 long before 10, and some drivers compute it through exp without a bound.
    let inner = 0.7978845608 * (gate + 0.044715 * gate * gate * gate);
    return 0.5 * gate * (1.0 + tanh(clamp(inner, -10.0, 10.0)));
{% endif %}
}
{% endif %}

fn biased(which: u32, output: u32, sum: f32, scale: f32) -> f32 {
    let y = sum * scale;
{% for v in biases %}
{% if v is not none %}
    if which == {{ loop.index0 }}u {
        let at = p.projections[{{ loop.index0 }}].bias + output;
        return y + vector_{{ v }}[at / 4u][at % 4u];
    }
{% endif %}
{% endfor %}
    return y;
}

// Writes one output: `sums` are the products with its weight rows, `square` is the sum of the row's squares.
fn finish(which: u32, row: u32, output: u32, sums: array<f32, {{ 2 if gate else 1 }}>, square: f32) {
    let projection = p.projections[which];
    if row >= p.rows || output >= projection.outputs {
        return;
    }
{% if norm is not none %}
    let scale = inverseSqrt(square / f32(p.cols) + p.epsilon);
{% else %}
    let scale = 1.0;
{% endif %}
{% if gate %}
    let y = activation(biased(0u, output, sums[0], scale)) * biased(1u, output, sums[1], scale);
{% else %}
    let y = biased(which, output, sums[0], scale);
{% endif %}
    let at = row * projection.stride + projection.first + output;
{% for o in range(outs) %}
    if which == {{ o }}u {
        out_{{ o }}[at] {{ "+=" if add else "=" }} y;
    }
{% endfor %}
}

{% if subgroup < 8 %}
// The sum of eight lanes; those that a subgroup has added already hold the same.
fn total(at: u32) -> f32 {
{% if subgroup == 4 %}
    return partials[at] + partials[at + 4u];
{% else %}
    let low = (partials[at] + partials[at + 1u]) + (partials[at + 2u] + partials[at + 3u]);
    let high = (partials[at + 4u] + partials[at + 5u]) + (partials[at + 6u] + partials[at + 7u]);
    return low + high;
{% endif %}
}
{% endif %}

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let first_row = {{ rows }}u * workgroup.x;
    var tile = workgroup.y + workgroups.y * workgroup.z;
    var which = 0u;
{% if not gate %}
{% for i in range(weights | length - 1) %}
    if which == {{ i }}u && tile >= p.projections[{{ i }}].tiles {
        tile -= p.projections[{{ i }}].tiles;
        which = {{ i + 1 }}u;
    }
{% endfor %}
{% endif %}
    // The grid may be larger than what there is to do, by a part of its last layer.
    if tile >= p.projections[which].tiles {
        return;
    }
    let lane = t % 8u;
    let place = t / 8u;
    let first_output = tile * {{ places * per }}u;
{% for k in range(columns) %}
{% set weight = k // per if gate else "which" %}
    let output_{{ k }} = first_output + {{ k % per * places }}u + place;
    let row_{{ k }} = p.projections[{{ weight }}].base
        + min(output_{{ k }}, p.projections[{{ weight }}].outputs - 1u) * p.projections[{{ weight }}].row_quads;
{% endfor %}
{% for m in range(rows) %}
{% for k in range(columns) %}
    var sum_{{ m }}_{{ k }} = 0.0;
{% endfor %}
{% endfor %}
{% if norm is not none %}
{% for s in range(slots) %}
    var square_{{ s }} = 0.0;
{% endfor %}
{% endif %}
    let chunks = (p.groups + 7u) / 8u;
    let quad = t % 64u;
    // Quads of one number lie together, lane by lane.
    let slot = (t / 64u) * 64u + (quad % 8u) * 8u + quad / 8u;
    for (var chunk = 0u; chunk < chunks; chunk++) {
{% for s in range(slots) %}
{% set value = "value_" ~ s %}
        var {{ value }} = input(first_row + t / 64u + {{ s * threads // 64 }}u, 64u * chunk + quad);
{% if norm is not none %}
        square_{{ s }} += dot({{ value }}, {{ value }});
        {{ value }} *= vector_{{ norm }}[min(p.norm + 64u * chunk + quad, arrayLength(&vector_{{ norm }}) - 1u)];
{% endif %}
{% endfor %}
{% if mode == "f32" %}
{% for s in range(slots) %}
        staged[slot + {{ s * threads }}u] = value_{{ s }};
{% endfor %}
{% else %}
{% include "scaled_stage.wgsl" %}
{% endif %}
        workgroupBarrier();
        let group = 8u * chunk + lane;
        if group < p.groups {
{% if quantised %}
{% for k in range(columns) %}
            let w_{{ k }} = load({{ k // per ~ "u" if gate else "which" }}, row_{{ k }}, group);
{% endfor %}
{% endif %}
{% if mode == "f32" %}
{% include "f32_dot.wgsl" %}
{% elif mode == "f16" %}
{% include "f16_dot.wgsl" %}
{% else %}
{% include "i8_dot.wgsl" %}
{% endif %}
        }
        workgroupBarrier();
    }
{% include "reduce.wgsl" %}
}
