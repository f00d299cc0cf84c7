// Q2_K: sections `scales, quants` (80 bytes a block of 256: 16 bytes of scale and minimum, one a run of 16 elements, then
// 64 bytes) and `d, dmin` (two f16).
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let block = group / 8u;
    let g = group % 8u;
    let at = row + 5u * block;
    let scales = (word_{{ n }}(4u * at + g / 2u) >> (16u * (g % 2u))) & 0xffffu;
    let dm = unpack2x16float(word_{{ n }}(4u * (row + 5u * (groups / 8u)) + block));
    let quants = at + 1u + 2u * (g / 4u);
    let shift = vec4(2u * (g % 4u));
    let pairs = vec4(0x03030303u);
    return Group(
        (weight_{{ n }}[quants] >> shift) & pairs,
        (weight_{{ n }}[quants + 1u] >> shift) & pairs,
        dm.x * vec2(f32(scales & 15u), f32((scales >> 8u) & 15u)),
        -dm.y * vec2(f32((scales >> 4u) & 15u), f32(scales >> 12u)),
        0.0,
    );
}
