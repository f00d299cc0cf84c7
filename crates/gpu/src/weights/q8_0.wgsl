// Q8_0: sections `quants` (32 signed bytes a block) and `d` (f16).
fn group_{{ n }}(row: u32, groups: u32, group: u32) -> Group {
    let at = row + 2u * group;
    let d = half_{{ n }}(4u * (row + 2u * groups), group);
{% if signed %}
    return Group(weight_{{ n }}[at], weight_{{ n }}[at + 1u], vec2(d), vec2(0.0), 0.0);
{% else %}
    // Unsigned with a zero point of 128, as every other type is.
    let flip = vec4(0x80808080u);
    return Group(weight_{{ n }}[at] ^ flip, weight_{{ n }}[at + 1u] ^ flip, vec2(d), vec2(0.0), 128.0);
{% endif %}
}
