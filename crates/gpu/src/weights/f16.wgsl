// F16: a row padded to 16 bytes.
fn quad_{{ n }}(row: u32, group: u32, quad: u32) -> vec4<f32> {
    let at = 4u * (row + 4u * group) + 2u * quad;
    return vec4(unpack2x16float(word_{{ n }}(at)), unpack2x16float(word_{{ n }}(at + 1u)));
}
