// Q4_K: blocks of 256 elements as GGUF has them, 144 bytes: d and dmin (two f16), 12 bytes of 6-bit scales and minimums, one
// a group, 128 bytes of quants. Byte l of run c of 32 bytes holds element 64 c + l low and 64 c + 32 + l high.
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let at = row + 9u * (group / 8u);
    let g = group % 8u;
    let sm = scale_min(weight_{{ n }}[at], g);
    let quants = at + 1u + 2u * (g / 2u);
    let shift = vec4(4u * (g % 2u));
    return Group(
        (weight_{{ n }}[quants] >> shift) & NIBBLES,
        (weight_{{ n }}[quants + 1u] >> shift) & NIBBLES,
        sm.xx,
        sm.yy,
        0.0,
    );
}
