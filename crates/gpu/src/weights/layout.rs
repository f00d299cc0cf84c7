//! How a row of a weight lies in GPU memory.
//!
//! GGUF's blocks of 18, 22, 34 or 210 bytes would make every load an unaligned one. So a row keeps all its bytes, but sorted:
//! each *section* holds one field of all the row's blocks. The first section is a multiple of 16 bytes a block and is
//! read 16 bytes at a time; fields of 4 and 2 bytes follow, and the row ends at a multiple of 16. Rows stay apart, so a
//! weight can be uploaded, and split, by rows.

use reprise_gguf::GgmlDType;

/// Bytes of one load: `vec4<u32>`. Rows begin at multiples of it.
pub(crate) const QUAD_BYTES: usize = 16;

/// Fields `(offset, length)` of a block in the order of their sections.
type Fields = &'static [(usize, usize)];

/// The layout of rows of `cols` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    fields: Fields,
    block_bytes: usize,
    blocks: usize,
}

impl Layout {
    /// `None` for a type without a kernel. `cols` is a multiple of the type's block size.
    pub(crate) fn new(dtype: GgmlDType, cols: usize) -> Option<Self> {
        let fields: Fields = match dtype {
            GgmlDType::F32 => &[(0, 4)],
            GgmlDType::F16 | GgmlDType::BF16 => &[(0, 2)],
            GgmlDType::Q4_0 => &[(2, 16), (0, 2)],
            GgmlDType::Q4_1 => &[(4, 16), (0, 4)],
            GgmlDType::Q5_0 => &[(6, 16), (2, 4), (0, 2)],
            GgmlDType::Q5_1 => &[(8, 16), (4, 4), (0, 4)],
            GgmlDType::Q8_0 => &[(2, 32), (0, 2)],
            GgmlDType::Q2K => &[(0, 80), (80, 4)],
            GgmlDType::Q3K => &[(0, 96), (96, 12), (108, 2)],
            GgmlDType::Q4K => &[(0, 144)],
            GgmlDType::Q5K => &[(0, 176)],
            GgmlDType::Q6K => &[(0, 208), (208, 2)],
            GgmlDType::Q8_1 | GgmlDType::Q8K => return None,
        };
        Some(Self { fields, block_bytes: dtype.type_size(), blocks: cols / dtype.block_size() })
    }

    /// Bytes of a row in a file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.block_bytes * self.blocks
    }

    /// Bytes of a row in GPU memory.
    pub(crate) fn row_bytes(&self) -> usize {
        self.file_bytes().next_multiple_of(QUAD_BYTES)
    }

    /// Appends whole rows, as a file has them, to `out`.
    pub(crate) fn repack(&self, rows: &[u8], out: &mut Vec<u8>) {
        for row in rows.chunks_exact(self.file_bytes()) {
            let end = out.len() + self.row_bytes();
            if let [_] = self.fields {
                out.extend_from_slice(row);
            } else {
                for &(offset, len) in self.fields {
                    for block in row.chunks_exact(self.block_bytes) {
                        out.extend_from_slice(&block[offset..offset + len]);
                    }
                }
            }
            out.resize(end, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_hold_every_byte_of_a_block_once() {
        for dtype in super::super::TYPES {
            let layout = Layout::new(dtype, dtype.block_size()).expect("a kernel");
            let mut bytes: Vec<usize> = layout.fields.iter().flat_map(|&(at, len)| at..at + len).collect();
            bytes.sort_unstable();
            assert_eq!(bytes, (0..dtype.type_size()).collect::<Vec<_>>(), "{dtype:?}");
            let quantised = dtype.block_size() > 1;
            assert!(!quantised || layout.fields[0].1.is_multiple_of(QUAD_BYTES), "{dtype:?}");
        }
    }

    #[test]
    fn a_row_is_sorted_by_field_and_padded() {
        let layout = Layout::new(GgmlDType::Q4_0, 96).expect("a kernel");
        let block = |i: u8| {
            let mut block = vec![100 + i, 200 + i];
            block.extend([i; 16]);
            block
        };
        let row: Vec<u8> = (1..4).flat_map(block).collect();
        let mut out = Vec::new();
        layout.repack(&[row.clone(), row].concat(), &mut out);
        let mut wanted = Vec::new();
        for i in 1..4 {
            wanted.extend([i; 16]);
        }
        wanted.extend([101, 201, 102, 202, 103, 203]);
        wanted.resize(64, 0);
        assert_eq!(out, [wanted.clone(), wanted].concat());
    }
}
