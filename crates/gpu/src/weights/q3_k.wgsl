// Q3_K: sections `high, quants` (96 bytes a block of 256: 32 bytes whose bit g is bit 2 of group g, then 64 bytes),
// `scales` (12 bytes: 16 of 6 bits) and `d` (f16).
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let block = group / 8u;
    let g = group % 8u;
    let blocks = groups / 8u;
    let at = row + 6u * block;
    let scales = 4u * (row + 6u * blocks) + 3u * block;
    let i = g / 2u;
    let low = (word_{{ n }}(scales + i % 2u) >> (4u * (i / 2u))) & 0x0f0f0f0fu;
    let high = (word_{{ n }}(scales + 2u) >> (2u * i)) & 0x03030303u;
    let both = (low | (high << 4u)) >> (16u * (g % 2u));
    let d = half_{{ n }}(4u * (row + 6u * blocks) + 3u * blocks, block);
    let quants = at + 2u + 2u * (g / 4u);
    let shift = vec4(2u * (g % 4u));
    let pairs = vec4(0x03030303u);
    let bit = vec4(g);
    let ones = vec4(0x01010101u);
    return Group(
        ((weight_{{ n }}[quants] >> shift) & pairs) | (((weight_{{ n }}[at] >> bit) & ones) << vec4(2u)),
        ((weight_{{ n }}[quants + 1u] >> shift) & pairs) | (((weight_{{ n }}[at + 1u] >> bit) & ones) << vec4(2u)),
        d * vec2(f32(both & 63u) - 32.0, f32((both >> 8u) & 63u) - 32.0),
        vec2(0.0),
        4.0,
    );
}
