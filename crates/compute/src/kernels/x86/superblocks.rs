//! K-quants: 16 weight rows (a panel) unpacked to bytes and interleaved, then multiplied as in [`super::vnni`] and
//! [`super::avx2`].

pub(in crate::kernels) mod avx2;
mod packed;
pub(in crate::kernels) mod vnni;

use super::super::superblocks::formats::Format;

/// Whether the kernels take a format apart in registers, and want its rows woven therefore.
pub(in crate::kernels) fn weaves(format: Format) -> bool {
    matches!(format, Format::Q4K | Format::Q5K | Format::Q6K)
}
