fn word_{{ n }}(at: u32) -> u32 {
    return weight_{{ n }}[at / 4u][at % 4u];
}

// The f16 at place `i` of a section that begins at word `section`.
fn half_{{ n }}(section: u32, i: u32) -> f32 {
    return unpack2x16float(word_{{ n }}(section + i / 2u) >> (16u * (i % 2u))).x;
}
