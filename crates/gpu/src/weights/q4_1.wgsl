// Q4_1: sections `quants` (16 bytes a block) and `d, m` (two f16). Nibbles as in Q4_0.
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let q = weight_{{ n }}[row + group];
    let dm = unpack2x16float(word_{{ n }}(4u * (row + groups) + group));
    return Group(q & NIBBLES, (q >> FOUR) & NIBBLES, dm.xx, dm.yy, 0.0);
}
