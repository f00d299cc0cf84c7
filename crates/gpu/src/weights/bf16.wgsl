// BF16: a row padded to 16 bytes; the upper half of an f32.
fn quad_{{ n }}(row: u32, group: u32, quad: u32) -> vec4<f32> {
    let at = 4u * (row + 4u * group) + 2u * quad;
    let words = vec2(word_{{ n }}(at), word_{{ n }}(at + 1u));
    return bitcast<vec4<f32>>(vec4(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
