// Q5_K: blocks of 256 elements as GGUF has them, 176 bytes: the head of Q4_K, 32 bytes whose bit g is bit 4 of group g, then
// the quants of Q4_K.
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let at = row + 11u * (group / 8u);
    let g = group % 8u;
    let sm = scale_min(weight_{{ n }}[at], g);
    let quants = at + 3u + 2u * (g / 2u);
    let shift = vec4(4u * (g % 2u));
    let bit = vec4(g);
    let ones = vec4(0x01010101u);
    return Group(
        ((weight_{{ n }}[quants] >> shift) & NIBBLES) | (((weight_{{ n }}[at + 1u] >> bit) & ones) << FOUR),
        ((weight_{{ n }}[quants + 1u] >> shift) & NIBBLES) | (((weight_{{ n }}[at + 2u] >> bit) & ones) << FOUR),
        sm.xx,
        sm.yy,
        0.0,
    );
}
