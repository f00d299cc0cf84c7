// Q6_K: sections `low, high, scales` (208 bytes a block of 256: 128 bytes of nibbles, 64 of bit pairs, 16 signed scales, one
// a run of 16 elements) and `d` (f16). Elements of a half of 128 share 64 bytes of nibbles and 32 of pairs.
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let block = group / 8u;
    let g = group % 8u;
    let at = row + 13u * block;
    let run = g % 4u;
    let low = at + 4u * (g / 4u) + 2u * (run % 2u);
    let high = at + 8u + 2u * (g / 4u);
    let nibble = vec4(4u * (run / 2u));
    let pair = vec4(2u * run);
    let pairs = vec4(0x03030303u);
    let scales = word_{{ n }}(4u * (at + 12u) + g / 2u) >> (16u * (g % 2u));
    let d = half_{{ n }}(4u * (row + 13u * (groups / 8u)), block);
    return Group(
        ((weight_{{ n }}[low] >> nibble) & NIBBLES) | (((weight_{{ n }}[high] >> pair) & pairs) << FOUR),
        ((weight_{{ n }}[low + 1u] >> nibble) & NIBBLES) | (((weight_{{ n }}[high + 1u] >> pair) & pairs) << FOUR),
        d * vec2(f32(extractBits(i32(scales), 0u, 8u)), f32(extractBits(i32(scales), 8u, 8u))),
        vec2(0.0),
        32.0,
    );
}
