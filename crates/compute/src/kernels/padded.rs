//! Panels that have fewer rows than kernels take at a time.

use std::cell::RefCell;

use bytemuck::Pod;

use super::panel::{PANEL, Panel};

thread_local! {
    static PADDED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Gives `f` a panel of [`PANEL`] full rows of `blocks` blocks: `weights` itself, or a copy with zero rows appended.
pub(super) fn with_full_panel<B: Pod, R>(
    weights: Panel<'_, B>,
    blocks: usize,
    f: impl FnOnce(Panel<'_, B>) -> R,
) -> R {
    let full = PANEL * blocks;
    if weights.blocks.len() >= full {
        return f(weights);
    }
    PADDED.with_borrow_mut(|padded| {
        padded.clear();
        padded.resize((full * size_of::<B>()).div_ceil(size_of::<u64>()), 0);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(padded);
        let padded: &mut [B] = bytemuck::cast_slice_mut(&mut bytes[..full * size_of::<B>()]);
        padded[..weights.blocks.len()].copy_from_slice(weights.blocks);
        f(Panel { blocks: padded, ..weights })
    })
}
