//! K-quants: 16 weight rows (a panel) unpacked to bytes and interleaved, then multiplied as in [`super::vnni`] and
//! [`super::avx2`].

pub(in crate::kernels) mod avx2;
mod packed;
pub(in crate::kernels) mod vnni;
