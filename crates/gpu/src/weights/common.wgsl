// 32 elements of a weight row as a kernel sees them: element 4 i + j is byte j of word i; a value is
// (byte - zero) * scale + minimum, with one scale and minimum for each half of 16.
struct Group {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: vec2<f32>,
    minimum: vec2<f32>,
    zero: f32,
}

const NIBBLES = vec4<u32>(0x0f0f0f0fu);
const FOUR = vec4<u32>(4u);

// Sixteen bits to bit 4 of sixteen bytes.
fn fifth_bits(bits: u32) -> vec4<u32> {
    let four = (vec4(bits) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
    return ((four * vec4(0x00204081u)) & vec4(0x01010101u)) << FOUR;
}

// Scale and minimum of group `g` of a Q4_K or Q5_K block, from its first 16 bytes.
fn scale_min(head: vec4<u32>, g: u32) -> vec2<f32> {
    let dm = unpack2x16float(head.x);
    let shift = 8u * (g % 4u);
    var sm = vec2((head.y >> shift) & 63u, (head.z >> shift) & 63u);
    if g >= 4u {
        let low = head.w >> shift;
        sm = vec2(low & 15u, (low >> 4u) & 15u) | (((vec2(head.y, head.z) >> vec2(shift + 6u)) & vec2(3u)) << vec2(4u));
    }
    return vec2(dm.x, -dm.y) * vec2<f32>(sm);
}

// Four unsigned bytes.
fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u));
}

// Four elements of a group.
fn dequantised(word: u32, zero: f32, scale: f32, minimum: f32) -> vec4<f32> {
    return (bytes(word) - zero) * scale + minimum;
}
