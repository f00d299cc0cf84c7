//! Reading device memory: one mappable buffer, kept from step to step.

use reprise_compute::ComputeError;

use crate::buffer::Buffer;
use crate::recorder::{Copy, Recorder};
use crate::signal::signal;

/// The buffer that readbacks go through.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    /// Away while it is mapped, so that an abandoned readback leaves none that is half mapped.
    buffer: Option<Buffer>,
}

impl Staging {
    /// Submits what is recorded, copies `parts` (buffer, first byte, bytes; multiples of 4) one after the other, and gives
    /// the mapped bytes to `take`.
    ///
    /// # Errors
    /// [`ComputeError`] when the device fails or is lost.
    pub(crate) async fn read<T>(
        &mut self,
        recorder: &mut Recorder,
        parts: &[(&Buffer, u64, u64)],
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ComputeError> {
        let device = recorder.device.clone();
        let bytes: u64 = parts.iter().map(|part| part.2).sum();
        let buffer = match self.buffer.take().filter(|buffer| buffer.raw.size() >= bytes) {
            Some(buffer) => buffer,
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                Buffer::new(&device, &recorder.meter, "readback", bytes.next_power_of_two().max(4096), usage)
            }
        };
        let mut at = 0;
        let copies: Vec<_> = parts
            .iter()
            .map(|&(from, first, bytes)| {
                at += bytes;
                Copy { from: (from, first), to: (&buffer, at - bytes), bytes }
            })
            .collect();
        recorder.submit(&copies);
        device.check()?;

        let (sender, mapped) = signal();
        buffer.raw.map_async(wgpu::MapMode::Read, ..bytes, move |result| sender.send(result));
        wait(&device)?;
        if let Err(error) = mapped.await {
            device.check()?;
            return Err(ComputeError::DeviceLost(format!("reading back failed: {error}")));
        }
        let view = buffer
            .raw
            .get_mapped_range(..bytes)
            .map_err(|error| ComputeError::Device(format!("reading back failed: {error}")))?;
        let taken = take(&view);
        drop(view);
        buffer.raw.unmap();
        self.buffer = Some(buffer);
        recorder.meter.readbacks.add(1);
        recorder.meter.bytes_read.add(bytes);
        device.check()?;
        Ok(taken)
    }
}

/// Waits for the device and runs its callbacks; a browser does that between two turns of its event loop.
fn wait(device: &crate::device::Device) -> Result<(), ComputeError> {
    if cfg!(target_arch = "wasm32") {
        return Ok(());
    }
    match device.device.poll(wgpu::PollType::wait_indefinitely()) {
        Ok(_) => Ok(()),
        Err(error) => {
            device.check()?;
            Err(ComputeError::Device(error.to_string()))
        }
    }
}

/// Submits what is recorded without reading anything. At most one such submission is in flight: the next waits for it,
/// so that a long prompt does not pile up work that can no longer be called off.
#[derive(Debug, Default)]
pub(crate) struct Unread(Option<crate::signal::Signal<()>>);

impl Unread {
    /// # Errors
    /// [`ComputeError`] when the device fails or is lost.
    pub(crate) async fn submit(&mut self, recorder: &mut Recorder) -> Result<(), ComputeError> {
        let device = recorder.device.clone();
        recorder.submit(&[]);
        let (sender, done) = signal();
        device.queue.on_submitted_work_done(move || sender.send(()));
        wait(&device)?;
        if let Some(before) = self.0.replace(done) {
            before.await;
        }
        device.check()
    }
}
