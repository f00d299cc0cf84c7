//! The backend: what it allocates, and how operations come to be dispatched.

use std::ops::Range;
use std::sync::Arc;

use reprise_compute::{
    Backend, Cell, CellRun, ComputeError, KvShape, KvType, Pairing, Readout, Rope, StepLayout,
};
use reprise_gguf::{GgmlDType, ModelSource};

use crate::buffer::{Buffer, GpuTensor};
use crate::counters::Counters;
use crate::device::{Device, GpuOptions};
use crate::error::GpuError;
use crate::kv::{GpuKv, check_run};
use crate::ops::heads::RopeAt;
use crate::ops::{self, Op, attention, cells, embed, gather, heads, map, norm, top};
use crate::pass::GpuPass;
use crate::readback::{Staging, Unread};
use crate::recorder::Recorder;
use crate::rotations::rotations;
use crate::weights::{self, GpuWeight, Vectors};

/// A GPU through WebGPU.
///
/// Clones share the device and its compiled kernels; each has its own counters, and must be given only what was made by
/// itself.
pub struct Gpu {
    pub(crate) recorder: Recorder,
    vectors: Vectors,
    staging: Staging,
    unread: Unread,
    top: Option<TopMemory>,
}

/// Where the two stages of a top-k write.
struct TopMemory {
    scratch: Buffer,
    out: Buffer,
}

impl Gpu {
    /// Opens the system's best adapter.
    ///
    /// # Errors
    /// [`GpuError`] when there is none, or it is below WebGPU's default limits.
    #[cfg_attr(
        target_arch = "wasm32",
        allow(clippy::arc_with_non_send_sync, reason = "shared between threads natively only")
    )]
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        Device::open(options).await.map(|device| Self::on(Arc::new(device)))
    }

    /// What was done on the device so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.recorder.meter.read()
    }

    /// A handle that reads the counters and destroys the device while a model owns the backend.
    #[must_use]
    pub fn handle(&self) -> GpuHandle {
        GpuHandle { device: self.recorder.device.clone(), meter: self.recorder.meter.clone() }
    }

    /// Destroys the device as if it were lost: for tests of the recovery.
    pub fn lose(&self) {
        self.recorder.device.lose();
    }

    /// What of the options the adapter has.
    #[must_use]
    pub fn features(&self) -> GpuOptions {
        self.recorder.device.features
    }

    fn on(device: Arc<Device>) -> Self {
        Self {
            recorder: Recorder::new(device),
            vectors: Vectors::default(),
            staging: Staging::default(),
            unread: Unread::default(),
            top: None,
        }
    }

    /// Records the dispatches of an operation.
    pub(crate) fn dispatch(&mut self, op: &Op) -> Result<(), ComputeError> {
        let recorder = &mut self.recorder;
        match op {
            Op::Embed(op) => embed::record(recorder, op),
            Op::Norm(op) => norm::record(recorder, op),
            Op::Heads(op) => heads::record(recorder, op),
            Op::Attention(op) => attention::record(recorder, op),
            Op::Map(op) => map::record(recorder, op),
            Op::Gather(op) => gather::record(recorder, op),
            Op::Linear(op) => ops::linear(recorder, op),
        }
        Ok(())
    }

    pub(crate) async fn finish_unread(&mut self) -> Result<(), ComputeError> {
        self.recorder.device.check()?;
        self.unread.submit(&mut self.recorder).await
    }

    pub(crate) async fn finish_rows(&mut self, x: &GpuTensor, out: &mut Readout) -> Result<(), ComputeError> {
        self.recorder.device.check()?;
        let bytes = (x.rows * x.width * 4) as u64;
        if bytes == 0 {
            return self.finish_unread().await;
        }
        let parts = [(&x.buffer, 0, bytes)];
        let take = |bytes: &[u8]| out.values.extend(bytes.chunks_exact(4).map(float));
        self.staging.read(&mut self.recorder, &parts, take).await
    }

    pub(crate) async fn finish_top(
        &mut self,
        x: &GpuTensor,
        count: usize,
        out: &mut Readout,
    ) -> Result<(), ComputeError> {
        self.recorder.device.check()?;
        let count = count.min(x.width) as u32;
        let x = x.operand();
        let (scratch, bytes) = (top::scratch_words(&x, count) * 4, u64::from(x.rows * count) * 8);
        if bytes == 0 {
            return self.finish_unread().await;
        }
        let fits = |top: &TopMemory| top.scratch.raw.size() >= scratch && top.out.raw.size() >= bytes;
        let memory = match self.top.take().filter(fits) {
            Some(memory) => memory,
            None => {
                let Recorder { device, meter, .. } = &self.recorder;
                TopMemory {
                    scratch: Buffer::storage(device, meter, "top-k pieces", scratch.next_power_of_two())?,
                    out: Buffer::storage(device, meter, "top-k", bytes.next_power_of_two())?,
                }
            }
        };
        let memory = self.top.insert(memory);
        top::record(&mut self.recorder, &x, count, (&memory.scratch, &memory.out));
        let take = |bytes: &[u8]| {
            for pair in bytes.chunks_exact(8) {
                out.values.push(float(&pair[..4]));
                out.columns.push(u32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]]));
            }
        };
        self.staging.read(&mut self.recorder, &[(&memory.out, 0, bytes)], take).await
    }
}

/// The backend's counters and the device's life, apart from the backend.
#[derive(Clone)]
pub struct GpuHandle {
    device: Arc<Device>,
    meter: Arc<crate::counters::Meter>,
}

impl GpuHandle {
    /// See [`Gpu::counters`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.meter.read()
    }

    /// See [`Gpu::lose`].
    pub fn lose(&self) {
        self.device.lose();
    }
}

impl Clone for Gpu {
    fn clone(&self) -> Self {
        Self::on(self.recorder.device.clone())
    }
}

impl Backend for Gpu {
    type Weight = GpuWeight;
    type Tensor = GpuTensor;
    type Kv = GpuKv;
    type Pass<'a> = GpuPass<'a>;

    fn name(&self) -> String {
        let features = self.recorder.device.features;
        let used: String =
            [(features.subgroups, "subgroups"), (features.dot4, "dot4"), (features.f16, "f16")]
                .iter()
                .filter(|(used, _)| *used)
                .map(|(_, name)| format!(", {name}"))
                .collect();
        format!("WebGPU ({}{used})", self.recorder.device.name)
    }

    async fn weight<S: ModelSource>(
        &self,
        dtype: GgmlDType,
        rows: usize,
        cols: usize,
        source: &S,
        range: Range<u64>,
    ) -> Result<GpuWeight, ComputeError> {
        let Recorder { device, meter, .. } = &self.recorder;
        weights::upload(device, meter, &self.vectors, dtype, rows, cols, source, range).await
    }

    fn tensor(&self, capacity: usize, width: usize) -> Result<GpuTensor, ComputeError> {
        let Recorder { device, meter, .. } = &self.recorder;
        let buffer = Buffer::storage(device, meter, "activations", (capacity * width * 4) as u64)?;
        Ok(GpuTensor { buffer, capacity, width, rows: 0 })
    }

    fn kv(&self, shape: KvShape, blocks: u32) -> Result<GpuKv, ComputeError> {
        if [shape.keys, shape.values] != [KvType::F16; 2] {
            let detail = format!("K as {} and V as {}: the GPU keeps both as f16", shape.keys, shape.values);
            return Err(ComputeError::Operands { op: "kv", detail });
        }
        GpuKv::new(&self.recorder.device, &self.recorder.meter, shape, blocks)
    }

    fn pass<'a>(&'a mut self, layout: &'a StepLayout<'a>) -> GpuPass<'a> {
        GpuPass::new(self, layout)
    }

    /// The copies are submitted with the next step.
    fn copy_cells(&mut self, kv: &mut GpuKv, copy: CellRun) -> Result<(), ComputeError> {
        kv.check_copy(copy)?;
        cells::copy(&mut self.recorder, kv, copy);
        Ok(())
    }

    /// The rotation is submitted with the next step.
    fn rotate_cells(
        &mut self,
        kv: &mut GpuKv,
        layer: usize,
        at: Cell,
        count: usize,
        delta: i32,
        rope: &Rope,
    ) -> Result<(), ComputeError> {
        check_run(at, count)?;
        kv.check_written(at.block)?;
        let buffer = kv.layer("rotate_cells", layer)?;
        let pairs = rope.inverse_frequencies.len();
        if pairs * 2 > kv.shape.head_dim {
            let detail = format!("{pairs} pairs in a head of {}", kv.shape.head_dim);
            return Err(ComputeError::Operands { op: "rotate_cells", detail });
        }
        let data = self.recorder.data(rotations(std::iter::once(f64::from(delta)), rope));
        let rope = RopeAt { data, pairs: pairs as u32, adjacent: rope.pairing == Pairing::Adjacent };
        cells::rotate(&mut self.recorder, (kv, buffer), at, count as u32, rope);
        Ok(())
    }

    async fn export_block(&mut self, kv: &GpuKv, block: u32, tokens: usize) -> Result<Vec<u8>, ComputeError> {
        check_run(Cell { block, offset: 0 }, tokens)?;
        kv.check_written(block)?;
        self.recorder.device.check()?;
        if kv.shape.bytes(tokens) == 0 {
            return Ok(Vec::new());
        }
        let parts: Vec<_> = kv
            .layers()
            .iter()
            .flat_map(|layer| kv.block_bytes(block, tokens).map(|(first, bytes)| (layer, first, bytes)))
            .collect();
        self.staging.read(&mut self.recorder, &parts, |bytes| kv.canonical(bytes)).await
    }

    fn import_block(
        &mut self,
        kv: &mut GpuKv,
        block: u32,
        tokens: usize,
        data: &[u8],
    ) -> Result<(), ComputeError> {
        check_run(Cell { block, offset: 0 }, tokens)?;
        let wanted = kv.shape.bytes(tokens);
        if data.len() != wanted {
            return Err(ComputeError::Length { what: "a KV block", wanted, found: data.len() });
        }
        kv.write(block)?;
        self.recorder.device.check()?;
        // What was recorded before must not see the new cells.
        self.recorder.submit(&[]);
        let padded = kv.padded(data);
        let places = kv.layers().iter().flat_map(|layer| {
            kv.block_bytes(block, tokens).map(|(first, bytes)| (layer, first, bytes as usize))
        });
        let mut rest = &padded[..];
        for (layer, first, bytes) in places {
            let (part, after) = rest.split_at(bytes);
            self.recorder.device.queue.write_buffer(&layer.raw, first, part);
            rest = after;
        }
        self.recorder.meter.bytes_written.add(padded.len() as u64);
        Ok(())
    }
}

fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
