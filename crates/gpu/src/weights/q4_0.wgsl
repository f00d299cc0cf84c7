// Q4_0: sections `quants` (16 bytes a block) and `d` (f16). Byte j holds element j low and element j + 16 high.
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let q = weight_{{ n }}[row + group];
    let low = q & NIBBLES;
    let high = (q >> FOUR) & NIBBLES;
    let d = half_{{ n }}(4u * (row + groups), group);
    return Group(low, high, vec2(d), vec2(0.0), 8.0);
}
