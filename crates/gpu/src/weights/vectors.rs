//! The norms and biases of a model in a few shared buffers.
//!
//! A kernel may bind eight storage buffers. With each vector in a buffer of its own, a projection of Q, K and V with biases
//! would need eleven; sharing one, it needs eight.

use std::sync::{Mutex, PoisonError};

use reprise_compute::ComputeError;

use super::layout::QUAD_BYTES;
use crate::buffer::Buffer;
use crate::counters::Meter;
use crate::device::Device;

/// Bytes of a shared buffer: the norms and biases of most models fit.
const BUFFER_BYTES: u64 = 1 << 20;

/// Where the next vector goes.
#[derive(Debug, Default)]
pub(crate) struct Vectors(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    buffer: Buffer,
    used: u64,
}

impl Vectors {
    /// Memory for `bytes`, as a buffer and where it begins there, in bytes (a multiple of [`QUAD_BYTES`]).
    ///
    /// # Errors
    /// [`ComputeError`] when the device has no memory left.
    pub(super) fn take(
        &self,
        device: &Device,
        meter: &Meter,
        bytes: u64,
    ) -> Result<(Buffer, u64), ComputeError> {
        let bytes = bytes.next_multiple_of(QUAD_BYTES as u64);
        let capacity = BUFFER_BYTES.min(device.binding_limit);
        if bytes > capacity / 4 {
            return Ok((Buffer::storage(device, meter, "vector", bytes)?, 0));
        }
        // A panic elsewhere left nothing half done here.
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match open.take().filter(|open| open.used + bytes <= open.buffer.raw.size()) {
            Some(current) => current,
            None => Open { buffer: Buffer::storage(device, meter, "vectors", capacity)?, used: 0 },
        };
        let current = open.insert(current);
        let at = current.used;
        current.used += bytes;
        Ok((current.buffer.clone(), at))
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::GpuOptions;

    #[test]
    fn small_vectors_share_a_buffer_and_large_ones_do_not() {
        let device = block_on(Device::open(&GpuOptions::plain())).expect("an adapter");
        let (vectors, meter) = (Vectors::default(), Meter::default());
        let take = |bytes| vectors.take(&device, &meter, bytes).expect("memory");
        let (first, second, large) = (take(20), take(64), take(BUFFER_BYTES / 2));
        assert_eq!((first.1, second.1, large.1), (0, 32, 0));
        assert_eq!(first.0.id, second.0.id);
        assert_ne!(first.0.id, large.0.id);
        let quarters: Vec<_> = (0..4).map(|_| take(BUFFER_BYTES / 4)).collect();
        assert_eq!(quarters[2].0.id, first.0.id);
        assert_ne!(quarters[3].0.id, first.0.id);
    }
}
