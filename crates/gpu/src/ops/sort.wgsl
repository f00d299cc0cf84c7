// A bitonic sort of PIECE entries in workgroup memory: larger keys first, among equal ones the lower column.
const SIZE: u32 = 256u;
const NOTHING: vec2<u32> = vec2(0u, 0xffffffffu);
var<workgroup> entries: array<vec2<u32>, PIECE>;

// Floats in the order of unsigned numbers; both zeros are one, and a NaN is negative infinity.
fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return ~0xff800000u;
    }
    if ((bits & 0x7fffffffu) == 0u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn bits_of(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}

fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// The best entry alone, to the first place.
fn best(thread: u32) {
    for (var half = PIECE / 2u; half > 0u; half /= 2u) {
        for (var i = thread; i < half; i += SIZE) {
            if (before(entries[i + half], entries[i])) {
                entries[i] = entries[i + half];
            }
        }
        workgroupBarrier();
    }
}

fn sort(thread: u32) {
    for (var size = 2u; size <= PIECE; size *= 2u) {
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            for (var i = thread; i < PIECE / 2u; i += SIZE) {
                let low = i / stride * stride * 2u + i % stride;
                let high = low + stride;
                let a = entries[low];
                let b = entries[high];
                let forward = (low & size) == 0u;
                if (before(b, a) == forward) {
                    entries[low] = b;
                    entries[high] = a;
                }
            }
            workgroupBarrier();
        }
    }
}
