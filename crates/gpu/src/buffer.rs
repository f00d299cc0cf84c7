//! Device memory: buffers that know their own identity, and the activations made of them.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use reprise_compute::ComputeError;

use crate::counters::Meter;
use crate::device::Device;

/// A buffer on the device. Clones are the same memory, and equal.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    /// Unique in the process, so that a bind group can be found by what it binds.
    pub(crate) id: u64,
    pub(crate) raw: wgpu::Buffer,
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Buffer {}

impl Hash for Buffer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Buffer {
    /// A zeroed buffer of `bytes`, rounded up to 16 and at least 16, that kernels and copies may read and write.
    ///
    /// # Errors
    /// [`ComputeError::Device`] when the device does not allow a binding of that size or has no memory left.
    pub(crate) fn storage(
        device: &Device,
        meter: &Meter,
        what: &str,
        bytes: u64,
    ) -> Result<Self, ComputeError> {
        let limit = device.limits.max_storage_buffer_binding_size.min(device.limits.max_buffer_size);
        if bytes > limit {
            let detail = format!("{what} takes {bytes} bytes, but the GPU allows {limit} in one buffer");
            return Err(ComputeError::Device(detail));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = Self::new(device, meter, what, bytes, usage);
        device.check()?;
        Ok(buffer)
    }

    /// A buffer for `usage`; what goes wrong is told by [`Device::check`].
    pub(crate) fn new(
        device: &Device,
        meter: &Meter,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        meter.buffers.add(1);
        let raw = device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes.next_multiple_of(16).max(16),
            usage,
            mapped_at_creation: false,
        });
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), raw }
    }
}

/// Activations `[capacity, width] f32`, row-major without padding; a pass uses the first `rows`. What nothing in its pass
/// reads, or reads back, may be left unwritten.
#[derive(Debug)]
pub struct GpuTensor {
    pub(crate) buffer: Buffer,
    pub(crate) capacity: usize,
    pub(crate) width: usize,
    /// Rows in use, known when an operation is recorded.
    pub(crate) rows: usize,
}

/// A tensor as an operation met it.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) buffer: Buffer,
    pub(crate) rows: u32,
    pub(crate) width: u32,
}

impl Operand {
    /// Whether both are the same memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.buffer == other.buffer
    }
}

impl GpuTensor {
    /// The tensor as it is now.
    pub(crate) fn operand(&self) -> Operand {
        Operand { buffer: self.buffer.clone(), rows: self.rows as u32, width: self.width as u32 }
    }

    /// Takes the first `rows` into use.
    ///
    /// # Errors
    /// [`ComputeError::Operands`] when there are not as many.
    pub(crate) fn resize(&mut self, op: &'static str, rows: usize) -> Result<Operand, ComputeError> {
        if rows > self.capacity {
            let detail = format!("{rows} rows in a tensor of {}", self.capacity);
            return Err(ComputeError::Operands { op, detail });
        }
        self.rows = rows;
        Ok(self.operand())
    }
}
