//! Panels that have fewer rows than kernels take at a time.

use std::cell::RefCell;

use super::blocks::Block32;
use super::panel::PANEL;

thread_local! {
    static PADDED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives `f` [`PANEL`] full rows of `blocks` blocks: `weights` itself, or a copy with zero rows appended.
pub(super) fn with_full_panel<B: Block32, R>(weights: &[B], blocks: usize, f: impl FnOnce(&[B]) -> R) -> R {
    let full = PANEL * blocks;
    if weights.len() >= full {
        return f(&weights[..full]);
    }
    PADDED.with_borrow_mut(|padded| {
        padded.clear();
        padded.extend_from_slice(bytemuck::cast_slice(weights));
        padded.resize(full * size_of::<B>(), 0);
        f(bytemuck::cast_slice(padded))
    })
}
