// Q5_0: sections `quants` (16 bytes a block), `high` (32 bits, bit i is bit 4 of element i) and `d` (f16).
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let q = weight_{{ n }}[row + group];
    let high = word_{{ n }}(4u * (row + groups) + group);
    let d = half_{{ n }}(4u * (row + groups) + groups, group);
    let low_half = (q & NIBBLES) | fifth_bits(high & 0xffffu);
    let high_half = ((q >> FOUR) & NIBBLES) | fifth_bits(high >> 16u);
    return Group(low_half, high_half, vec2(d), vec2(0.0), 16.0);
}
