//! A panel of 16 weight rows unpacked to bytes and interleaved, in memory that each thread reuses.

use std::cell::RefCell;

use crate::kernels::panel::PANEL;

/// One block of 32 elements of 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Interleaved {
    /// `[element / 4][row][element % 4]`: one dot product instruction takes four elements of every row.
    pub(super) quants: [[u8; 4 * PANEL]; 8],
    /// Scale of each row.
    pub(super) scales: [f32; PANEL],
    /// Minimum of each row.
    pub(super) mins: [f32; PANEL],
}

impl Interleaved {
    const ZERO: Self = Self { quants: [[0; 4 * PANEL]; 8], scales: [0.0; PANEL], mins: [0.0; PANEL] };
}

thread_local! {
    static INTERLEAVED: RefCell<Vec<Interleaved>> = const { RefCell::new(Vec::new()) };
}

/// Gives `f` room for `blocks` blocks of a panel; what it holds is left from earlier calls.
pub(super) fn with_interleaved<R>(blocks: usize, f: impl FnOnce(&mut [Interleaved]) -> R) -> R {
    INTERLEAVED.with_borrow_mut(|panel| {
        if panel.len() < blocks {
            panel.resize(blocks, Interleaved::ZERO);
        }
        f(&mut panel[..blocks])
    })
}
