//! Asking for weights before they are wanted.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::kernels::panel::{Order, PANEL, Panel};

/// Bytes ahead in one stream: far enough for memory, near enough to be still in the first cache when they are wanted.
pub(super) const AHEAD: usize = 3072;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// The same in blocks of 16 rows, for those that are larger.
const BLOCKS_AHEAD: usize = 3;

/// What is read after a panel's blocks, or while they are.
///
/// Of interleaved panels, which follow each other in memory, that is what lies some way ahead. Rows side by side the hardware does
/// not see as one stream; as a whole the weights are one, so the next panel is asked for in the order of its addresses.
#[derive(Debug)]
pub(super) struct Ahead<B> {
    first: *const i8,
    blocks: PhantomData<B>,
}

impl<B> Clone for Ahead<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Ahead<B> {}

impl<B> Ahead<B> {
    pub(super) fn of(weights: &Panel<'_, B>) -> Self {
        let panel = size_of_val(weights.blocks);
        let ahead = match weights.order {
            Order::Rows => panel,
            Order::Interleaved | Order::Woven => panel.min(AHEAD.max(BLOCKS_AHEAD * PANEL * size_of::<B>())),
        };
        Self { first: weights.blocks.as_ptr().cast::<i8>().wrapping_add(ahead), blocks: PhantomData }
    }

    /// Asks for what is wanted that far after block `index` of the panel's rows.
    #[inline(always)]
    pub(super) fn prefetch(self, index: usize) {
        self.part(index, 0, 1);
    }

    /// As [`Ahead::prefetch`], of the block one of so many parts: too many lines asked for at once have to wait.
    #[inline(always)]
    pub(super) fn part(self, index: usize, part: usize, parts: usize) {
        let bytes = PANEL * size_of::<B>();
        let next = self.first.wrapping_add(index * bytes);
        let lines = bytes.div_ceil(LINE);
        for line in part * lines / parts..(part + 1) * lines / parts {
            // SAFETY: a prefetch of any address, mapped or not, changes nothing but the caches.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(line * LINE));
            }
        }
    }
}
