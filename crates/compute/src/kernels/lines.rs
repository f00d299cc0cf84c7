//! Floats that begin at a cache line, so that no vector of them straddles two.

use bytemuck::{Pod, Zeroable};

/// Floats of a cache line.
const LINE: usize = 16;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A growing buffer of floats, aligned to 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

impl Lines {
    /// Makes it `len` floats, all zero.
    pub(crate) fn zeroed(&mut self, len: usize) -> &mut [f32] {
        self.lines.clear();
        self.resize(len)
    }

    /// Makes it `len` floats; those it had before keep their values, others are zero or left from earlier.
    pub(crate) fn resize(&mut self, len: usize) -> &mut [f32] {
        self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
        self.len = len;
        self.as_mut_slice()
    }

    /// The floats.
    pub(crate) fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The floats.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_and_keeps_its_length() {
        let mut lines = Lines::default();
        for len in [0, 1, 16, 17, 1000] {
            let floats = lines.zeroed(len);
            assert_eq!(floats, vec![0.0; len]);
            assert!(len == 0 || floats.as_ptr().align_offset(64) == 0);
            floats.fill(1.0);
            assert_eq!(lines.as_slice(), vec![1.0; len]);
        }
    }
}
