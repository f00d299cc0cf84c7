//! Angles of rotary embeddings, computed on the host: f32 arithmetic in a shader loses them at large positions.

use reprise_compute::Rope;

/// Cosine and sine of every pair at every position, `[positions, pairs, 2]`, as the bits of f32.
pub(crate) fn rotations(positions: impl Iterator<Item = f64>, rope: &Rope) -> Vec<u32> {
    positions
        .flat_map(|position| {
            rope.inverse_frequencies.iter().flat_map(move |&frequency| {
                let (sine, cosine) = (position * f64::from(frequency)).sin_cos();
                [(cosine as f32).to_bits(), (sine as f32).to_bits()]
            })
        })
        .collect()
}
