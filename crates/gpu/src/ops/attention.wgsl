// One workgroup: a tile of rows (x), a KV head (y), some of the query heads that share it (z). A query is a row's head.
struct Params {
    heads: u32,
    group: u32,
    row_words: u32,
    tiles: u32,
    scale: f32,
    window: u32,
    softcap: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> cells: array<u32>;
@group(0) @binding(3) var<storage, read> step_data: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// Below every score, and finite: differences of it are no NaN.
const LOWEST: f32 = -1e30;

var<workgroup> queries: array<vec2<f32>, QUERIES * WORDS>;
var<workgroup> scores: array<f32, QUERIES * CHUNK>;
var<workgroup> places: array<u32, CHUNK>;
var<workgroup> partial: array<f32, CHUNK>;
var<workgroup> factors: array<f32, QUERIES>;
var<workgroup> totals: array<f32, QUERIES>;

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) at: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = p.tiles + 4u * at.x;
    let first_row = step_data[tile];
    let rows = step_data[tile + 1u];
    let first_position = step_data[tile + 2u];
    let table = step_data[tile + 3u];
    let first_head = at.y * p.group + at.z * TAKEN;
    let taken = min(TAKEN, p.group - at.z * TAKEN);

    for (var i = thread; i < QUERIES * WORDS; i += CHUNK) {
        let row = i / WORDS / TAKEN;
        let head = i / WORDS % TAKEN;
        let word = i % WORDS;
        var pair = vec2(0.0);
        if (row < rows && head < taken) {
            let source = ((first_row + row) * p.heads + first_head + head) * HEAD_DIM + 2u * word;
            pair.x = q[source];
            if (2u * word + 1u < HEAD_DIM) {
                pair.y = q[source + 1u];
            }
        }
        queries[i] = pair * p.scale;
    }

    // Invocations in rows of LANES look after one query each: its largest score and the sum of its weights.
    let own = thread / LANES;
    let lane = thread % LANES;
    var largest = LOWEST;
    var total = 0.0;
    // For the values: the words and queries that this invocation adds up.
    let first_word = thread % ACROSS;
    let first_query = thread / ACROSS;
    var mixed: array<vec2<f32>, OWN_WORDS * OWN_QUERIES>;
    for (var i = 0u; i < OWN_WORDS * OWN_QUERIES; i++) {
        mixed[i] = vec2(0.0);
    }
    workgroupBarrier();

    let last = first_position + rows;
    var begin = 0u;
    if (first_position + 1u > p.window) {
        begin = (first_position + 1u - p.window) / CHUNK * CHUNK;
    }
    for (var chunk = begin; chunk < last; chunk += CHUNK) {
        // Each invocation scores one position for all queries.
        let position = chunk + thread;
        var score: array<f32, QUERIES>;
        for (var i = 0u; i < QUERIES; i++) {
            score[i] = 0.0;
        }
        if (position < last) {
            let block = step_data[table + position / 32u];
            let key = (block * 64u + position % 32u) * p.row_words + at.y * WORDS;
            places[thread] = key + 32u * p.row_words;
            for (var word = 0u; word < WORDS; word++) {
                let pair = unpack2x16float(cells[key + word]);
                for (var i = 0u; i < QUERIES; i++) {
                    score[i] += dot(queries[i * WORDS + word], pair);
                }
            }
        }
        for (var i = 0u; i < QUERIES; i++) {
            var value = score[i];
            if (SOFTCAP == 1u) {
                value = precise_tanh(value / p.softcap) * p.softcap;
            }
            let row_position = first_position + i / TAKEN;
            let seen = position <= row_position && row_position - position < p.window;
            scores[i * CHUNK + thread] = select(LOWEST, value, seen);
        }
        workgroupBarrier();

        var top = LOWEST;
        if (own < QUERIES) {
            for (var i = lane; i < CHUNK; i += LANES) {
                top = max(top, scores[own * CHUNK + i]);
            }
        }
        partial[thread] = top;
        workgroupBarrier();
        let before = largest;
        for (var i = 0u; i < LANES; i++) {
            largest = max(largest, partial[own * LANES + i]);
        }
        if (own < QUERIES) {
            let factor = exp(before - largest);
            total *= factor;
            for (var i = lane; i < CHUNK; i += LANES) {
                let value = scores[own * CHUNK + i];
                let weight = select(exp(value - largest), 0.0, value == LOWEST);
                total += weight;
                scores[own * CHUNK + i] = weight;
            }
            if (lane == 0u) {
                factors[own] = factor;
            }
        }
        workgroupBarrier();

        let count = min(CHUNK, last - chunk);
        for (var w = 0u; w < OWN_WORDS; w++) {
            let word = first_word + w * ACROSS;
            if (word < WORDS) {
                for (var i = 0u; i < OWN_QUERIES; i++) {
                    mixed[w * OWN_QUERIES + i] *= factors[min(first_query + i * SETS, QUERIES - 1u)];
                }
                for (var cell = 0u; cell < count; cell++) {
                    let value = unpack2x16float(cells[places[cell] + word]);
                    for (var i = 0u; i < OWN_QUERIES; i++) {
                        let query = min(first_query + i * SETS, QUERIES - 1u);
                        mixed[w * OWN_QUERIES + i] += scores[query * CHUNK + cell] * value;
                    }
                }
            }
        }
        workgroupBarrier();
    }

    partial[thread] = total;
    workgroupBarrier();
    if (own < QUERIES && lane == 0u) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += partial[thread + i];
        }
        totals[own] = sum;
    }
    workgroupBarrier();
    for (var w = 0u; w < OWN_WORDS; w++) {
        for (var i = 0u; i < OWN_QUERIES; i++) {
            let word = first_word + w * ACROSS;
            let query = first_query + i * SETS;
            let row = query / TAKEN;
            let head = query % TAKEN;
            if (word < WORDS && query < QUERIES && row < rows && head < taken) {
                let to = ((first_row + row) * p.heads + first_head + head) * HEAD_DIM + 2u * word;
                let value = mixed[w * OWN_QUERIES + i] / totals[query];
                out[to] = value.x;
                if (2u * word + 1u < HEAD_DIM) {
                    out[to + 1u] = value.y;
                }
            }
        }
    }
}
