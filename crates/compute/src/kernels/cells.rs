//! Rows of K and V as they are stored: f16, or ggml's `Q8_0` and `Q4_0`.
//!
//! A quantised block of 32 elements is its f16 scale, then the quants. The scale is found in f32 and rounded after the quants
//! were, half to even for `Q8_0`, as ggml does on x86. A product of scale and quant has at most 19 bits, so what is read back
//! is exact in f32 and the same on every instruction set.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Isa;
use super::math::larger;
use crate::KvType;

/// Elements of a quantised block.
const BLOCK: usize = 32;
/// Bytes of a block's scale.
const SCALE: usize = size_of::<f16>();
const Q8_0: usize = SCALE + BLOCK;
const Q4_0: usize = SCALE + BLOCK / 2;

/// Stores elements, as many as `to` takes.
pub(crate) fn store(isa: Isa, kv_type: KvType, from: &[f32], to: &mut [u8]) {
    match kv_type {
        KvType::F16 => bytemuck::cast_slice_mut::<u8, f16>(to).convert_from_f32_slice(from),
        KvType::Q8_0 => isa.run(
            #[inline(always)]
            || {
                for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
                    store_q8_0(from, to);
                }
            },
        ),
        KvType::Q4_0 => isa.run(
            #[inline(always)]
            || {
                for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
                    store_q4_0(from, to);
                }
            },
        ),
    }
}

/// Reads stored elements, as many as `to` takes.
pub(crate) fn load(isa: Isa, kv_type: KvType, from: &[u8], to: &mut [f32]) {
    match kv_type {
        KvType::F16 => bytemuck::cast_slice::<u8, f16>(from).convert_to_f32_slice(to),
        KvType::Q8_0 => isa.run(
            #[inline(always)]
            || {
                for (from, to) in from.as_chunks::<Q8_0>().0.iter().zip(to.as_chunks_mut::<BLOCK>().0) {
                    let scale = scale(from);
                    for (to, &quant) in to.iter_mut().zip(&from[SCALE..]) {
                        *to = f32::from(quant.cast_signed()) * scale;
                    }
                }
            },
        ),
        KvType::Q4_0 => isa.run(
            #[inline(always)]
            || {
                for (from, to) in from.as_chunks::<Q4_0>().0.iter().zip(to.as_chunks_mut::<BLOCK>().0) {
                    let scale = scale(from);
                    let (low, high) = to.split_at_mut(BLOCK / 2);
                    for ((low, high), &pair) in low.iter_mut().zip(high).zip(&from[SCALE..]) {
                        *low = (i32::from(pair & 15) - 8) as f32 * scale;
                        *high = (i32::from(pair >> 4) - 8) as f32 * scale;
                    }
                }
            },
        ),
    }
}

#[inline(always)]
fn scale<const N: usize>(block: &[u8; N]) -> f32 {
    f16::from_le_bytes([block[0], block[1]]).to_f32()
}

#[inline(always)]
fn store_q8_0(from: &[f32; BLOCK], to: &mut [u8; Q8_0]) {
    let max = from.iter().fold(0.0, |max, x| larger(x.abs(), max));
    let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
    to[..SCALE].copy_from_slice(&f16::from_f32(max / 127.0).to_le_bytes());
    for (to, x) in to[SCALE..].iter_mut().zip(from) {
        *to = ((x * inverse).round_ties_even() as i8).cast_unsigned();
    }
}

#[inline(always)]
fn store_q4_0(from: &[f32; BLOCK], to: &mut [u8; Q4_0]) {
    // The element furthest from zero becomes -8 quants, whatever its sign.
    let furthest =
        from.iter().fold(0.0f32, |furthest, &x| if x.abs() > furthest.abs() { x } else { furthest });
    let scale = furthest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    to[..SCALE].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    let quant = |x: f32| ((x * inverse + 8.5) as u8).min(15);
    let (low, high) = from.split_at(BLOCK / 2);
    for ((to, &low), &high) in to[SCALE..].iter_mut().zip(low).zip(high) {
        *to = quant(low) | quant(high) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read back of `from`.
    fn round_trip(isa: Isa, kv_type: KvType, from: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut stored = vec![0; kv_type.bytes(from.len())];
        store(isa, kv_type, from, &mut stored);
        let mut loaded = vec![0.0; from.len()];
        load(isa, kv_type, &stored, &mut loaded);
        (stored, loaded)
    }

    fn numbers() -> Vec<f32> {
        (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37f32.powi(i / 32)).collect()
    }

    #[test]
    fn what_is_read_back_is_within_half_a_step() {
        // Q4_0 has 16 steps from -8 to 7 of the largest element, so its opposite is off by a whole step.
        for (kv_type, steps, worst) in
            [(KvType::F16, 1024.0, 0.5), (KvType::Q8_0, 127.0, 0.57), (KvType::Q4_0, 8.0, 1.01)]
        {
            let (_, loaded) = round_trip(Isa::Portable, kv_type, &numbers());
            for (from, loaded) in numbers().chunks(BLOCK).zip(loaded.chunks(BLOCK)) {
                let max = from.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                for (x, y) in from.iter().zip(loaded) {
                    assert!((x - y).abs() <= worst * max / steps, "{kv_type}: {y} of {x}, at most {max}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_stores_and_reads_the_same() {
        for kv_type in KvType::ALL {
            let portable = round_trip(Isa::Portable, kv_type, &numbers());
            for &isa in Isa::available() {
                assert_eq!(round_trip(isa, kv_type, &numbers()), portable, "{kv_type} on {}", isa.name());
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for kv_type in KvType::ALL {
            assert_eq!(round_trip(Isa::Portable, kv_type, &[0.0; BLOCK]).1, [0.0; BLOCK]);
        }
    }
}
