// Q5_1: sections `quants` (16 bytes a block), `high` (32 bits, bit i is bit 4 of element i) and `d, m` (two f16).
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let q = weight_{{ n }}[row + group];
    let high = word_{{ n }}(4u * (row + groups) + group);
    let dm = unpack2x16float(word_{{ n }}(4u * (row + groups) + groups + group));
    let low_half = (q & NIBBLES) | fifth_bits(high & 0xffffu);
    let high_half = ((q >> FOUR) & NIBBLES) | fifth_bits(high >> 16u);
    return Group(low_half, high_half, dm.xx, dm.yy, 0.0);
}
