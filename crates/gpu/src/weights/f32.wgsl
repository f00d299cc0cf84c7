// F32: a row padded to 16 bytes.
fn quad_{{ n }}(row: u32, group: u32, quad: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weight_{{ n }}[row + 8u * group + quad]);
}
