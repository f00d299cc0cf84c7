//! KV memory: one buffer a layer, `[block][K, V][token][kv_head][head_dim] f16`, two f16 to a word.
//!
//! A head of an odd length is padded to whole words, on the device only. A binding limit is met by one layer alone, which
//! at 128 MiB is more context than any model here was trained for.

use reprise_compute::{BLOCK_TOKENS, Cell, CellRun, ComputeError, KvShape};

use crate::buffer::Buffer;
use crate::counters::Meter;
use crate::device::Device;

/// The KV memory of all layers. Blocks that were never written are zero, and may not be read.
#[derive(Debug)]
pub struct GpuKv {
    pub(crate) shape: KvShape,
    layers: Vec<Buffer>,
    written: Vec<bool>,
}

/// K or V.
const PARTS: usize = 2;

impl GpuKv {
    /// # Errors
    /// [`ComputeError::Device`] when the device cannot hold a layer's `blocks` in one buffer.
    pub(crate) fn new(
        device: &Device,
        meter: &Meter,
        shape: KvShape,
        blocks: u32,
    ) -> Result<Self, ComputeError> {
        let mut kv = Self { shape, layers: Vec::new(), written: vec![false; blocks as usize] };
        let bytes = u64::from(blocks) * u64::from(kv.block_words()) * 4;
        for layer in 0..shape.layers {
            let what = format!("the KV of layer {layer}");
            kv.layers.push(Buffer::storage(device, meter, &what, bytes).map_err(|error| match error {
                ComputeError::Device(detail) => {
                    ComputeError::Device(format!("{detail}: ask for less context"))
                }
                other => other,
            })?);
        }
        Ok(kv)
    }

    /// Words of one head's K or V.
    pub(crate) fn head_words(&self) -> u32 {
        self.shape.head_dim.div_ceil(2) as u32
    }

    /// Words of one token's K or V in a layer.
    pub(crate) fn row_words(&self) -> u32 {
        self.shape.kv_heads as u32 * self.head_words()
    }

    /// Words of one block's K and V in a layer.
    pub(crate) fn block_words(&self) -> u32 {
        (PARTS * BLOCK_TOKENS) as u32 * self.row_words()
    }

    /// # Errors
    /// [`ComputeError::Operands`] when the model has no such layer.
    pub(crate) fn layer(&self, op: &'static str, layer: usize) -> Result<&Buffer, ComputeError> {
        let layers = self.layers.len();
        self.layers
            .get(layer)
            .ok_or_else(|| ComputeError::Operands { op, detail: format!("layer {layer} of {layers}") })
    }

    /// The buffers of all layers.
    pub(crate) fn layers(&self) -> &[Buffer] {
        &self.layers
    }

    /// Notes that a block is about to be written.
    ///
    /// # Errors
    /// [`ComputeError::Block`] when it lies outside the memory.
    pub(crate) fn write(&mut self, block: u32) -> Result<(), ComputeError> {
        match self.written.get_mut(block as usize) {
            Some(written) => {
                *written = true;
                Ok(())
            }
            None => Err(outside(block)),
        }
    }

    /// # Errors
    /// [`ComputeError::Block`] when the block lies outside the memory or was never written.
    pub(crate) fn check_written(&self, block: u32) -> Result<(), ComputeError> {
        match self.written.get(block as usize) {
            Some(true) => Ok(()),
            Some(false) => Err(ComputeError::Block { block, state: "empty" }),
            None => Err(outside(block)),
        }
    }

    /// Checks a copy and notes what it writes.
    ///
    /// # Errors
    /// [`ComputeError::Block`] as above, or when either side crosses its block's end.
    pub(crate) fn check_copy(&mut self, copy: CellRun) -> Result<(), ComputeError> {
        check_run(copy.from, copy.count as usize)?;
        check_run(copy.to, copy.count as usize)?;
        self.check_written(copy.from.block)?;
        self.write(copy.to.block)
    }

    /// Where the first `tokens` cells of a block lie in a layer's buffer, as (first byte, bytes) of K and of V.
    pub(crate) fn block_bytes(&self, block: u32, tokens: usize) -> [(u64, u64); PARTS] {
        let part = (BLOCK_TOKENS as u64) * u64::from(self.row_words()) * 4;
        let first = u64::from(block) * part * PARTS as u64;
        let bytes = tokens as u64 * u64::from(self.row_words()) * 4;
        [(first, bytes), (first + part, bytes)]
    }

    /// Cells as they lie on the device, in the canonical layout: without the padding of odd heads.
    pub(crate) fn canonical(&self, device: &[u8]) -> Vec<u8> {
        let (head, padded) = (self.shape.head_dim * 2, self.head_words() as usize * 4);
        if head == padded {
            return device.to_vec();
        }
        device.chunks_exact(padded.max(1)).flat_map(|chunk| &chunk[..head]).copied().collect()
    }

    /// The reverse of [`Self::canonical`].
    pub(crate) fn padded(&self, canonical: &[u8]) -> Vec<u8> {
        let (head, padded) = (self.shape.head_dim * 2, self.head_words() as usize * 4);
        if head == padded {
            return canonical.to_vec();
        }
        let mut out = Vec::with_capacity(canonical.len() / head.max(1) * padded);
        for chunk in canonical.chunks_exact(head.max(1)) {
            out.extend_from_slice(chunk);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }
}

fn outside(block: u32) -> ComputeError {
    ComputeError::Block { block, state: "outside the KV memory" }
}

/// # Errors
/// [`ComputeError::Block`] when `count` cells from `at` cross the block's end.
pub(crate) fn check_run(at: Cell, count: usize) -> Result<(), ComputeError> {
    if (at.offset as usize).checked_add(count).is_some_and(|end| end <= BLOCK_TOKENS) {
        return Ok(());
    }
    Err(ComputeError::Block { block: at.block, state: "shorter than the run of cells" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(head_dim: usize) -> GpuKv {
        let shape = KvShape::f16(0, 2, head_dim);
        GpuKv { shape, layers: Vec::new(), written: vec![false, true] }
    }

    #[test]
    fn odd_heads_are_padded_on_the_device_only() {
        let cells: Vec<u8> = (0..24).collect();
        let odd = kv(3);
        let padded = odd.padded(&cells);
        assert_eq!(&padded[..10], [0, 1, 2, 3, 4, 5, 0, 0, 6, 7]);
        assert_eq!((padded.len(), odd.row_words()), (32, 4));
        assert_eq!(odd.canonical(&padded), cells);
        assert_eq!(kv(4).padded(&cells), cells);
    }

    #[test]
    fn blocks_lie_one_after_the_other() {
        // Two heads of two words each, 32 tokens, K before V.
        assert_eq!(kv(4).block_bytes(3, 5), [(3 * 1024, 80), (3 * 1024 + 512, 80)]);
    }

    #[test]
    fn only_written_blocks_are_read() {
        let mut kv = kv(4);
        let state = |kv: &GpuKv, block| match kv.check_written(block) {
            Err(ComputeError::Block { state, .. }) => state,
            _ => "written",
        };
        assert_eq!([0, 1, 2].map(|block| state(&kv, block)), ["empty", "written", "outside the KV memory"]);
        let run = |from, to, offset| CellRun {
            from: Cell { block: from, offset },
            to: Cell { block: to, offset: 0 },
            count: 3,
        };
        assert!(kv.check_copy(run(0, 1, 0)).is_err());
        assert!(kv.check_copy(run(1, 0, 30)).is_err());
        assert!(kv.check_copy(run(1, 0, u32::MAX)).is_err());
        assert_eq!(state(&kv, 0), "empty");
        assert!(kv.check_copy(run(1, 0, 29)).is_ok());
        assert_eq!(state(&kv, 0), "written");
    }
}
