//! What a step dispatches: kernels, the buffers they bind, their parameters and the step's data, gathered on the host and
//! written to the device at once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::counters::Meter;
use crate::device::Device;
use crate::kernel::{Access, Kernel, Key, PARAMETER_BYTES};
use crate::linear::LinearDispatch;

/// What a kernel binds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Bind {
    /// A buffer of the model's.
    Buffer(Buffer),
    /// The step's data, `array<u32>`: what [`Recorder::data`] gathered.
    StepData,
}

/// A copy between buffers after the dispatches, in bytes.
pub(crate) struct Copy<'a> {
    pub(crate) from: (&'a Buffer, u64),
    pub(crate) to: (&'a Buffer, u64),
    pub(crate) bytes: u64,
}

/// Gathers dispatches until they are submitted; owns the memory that their parameters go through.
pub(crate) struct Recorder {
    pub(crate) device: Arc<Device>,
    pub(crate) meter: Arc<Meter>,
    dispatches: Vec<Dispatch>,
    parameters: Vec<u32>,
    data: Vec<u32>,
    /// Bind groups by what they bind, good until the step's memory moves.
    groups: HashMap<(Key, Vec<Bind>), wgpu::BindGroup>,
    step: StepMemory,
}

/// Words of a dispatch's parameters.
const PARAMETER_WORDS: usize = PARAMETER_BYTES / 4;

struct Dispatch {
    key: Key,
    kernel: Arc<Kernel>,
    buffers: Vec<Bind>,
    grid: [u32; 3],
}

impl Recorder {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        let meter = Arc::<Meter>::default();
        Self {
            step: StepMemory::new(&device, &meter, 0, 0),
            device,
            meter,
            dispatches: Vec::new(),
            parameters: Vec::new(),
            data: Vec::new(),
            groups: HashMap::new(),
        }
    }

    /// Records one dispatch of `grid` workgroups of the operation `name`, compiled with the constants `variant`, over
    /// `buffers`; `parameters` are the words of its `Params`, a float by its bits. An empty grid records nothing.
    pub(crate) fn dispatch(
        &mut self,
        (name, variant): (&'static str, &[u32]),
        source: impl FnOnce() -> String,
        buffers: &[(Access, Bind)],
        parameters: &[u32],
        grid: [u32; 3],
    ) {
        let key = Key::Op(name, variant.to_vec());
        let accesses = || buffers.iter().map(|(access, _)| *access).collect::<Vec<_>>();
        let kernel = self
            .device
            .kernel(&key, &self.meter, || Kernel::compile(&self.device, name, &accesses(), &[], &source()));
        self.push(key, kernel, buffers.iter().map(|(_, bind)| bind.clone()).collect(), parameters, grid);
    }

    /// Records one dispatch of a matrix product.
    pub(crate) fn linear(&mut self, dispatch: &LinearDispatch<'_>) {
        let LinearDispatch { kernel: linear, params, buffers, grid } = dispatch;
        let key = Key::Linear(linear.clone());
        let kernel = self.device.kernel(&key, &self.meter, || {
            let enables = linear.enables();
            Kernel::compile(&self.device, &linear.label(), &linear.accesses(), &enables, &linear.source())
        });
        let buffers = buffers.iter().map(|&buffer| Bind::Buffer(buffer.clone())).collect();
        self.push(key, kernel, buffers, params, *grid);
    }

    fn push(
        &mut self,
        key: Key,
        kernel: Arc<Kernel>,
        buffers: Vec<Bind>,
        parameters: &[u32],
        grid: [u32; 3],
    ) {
        debug_assert!(parameters.len() <= PARAMETER_WORDS, "{} words of parameters", parameters.len());
        if grid.contains(&0) {
            return;
        }
        self.parameters.extend_from_slice(parameters);
        self.parameters.resize((self.dispatches.len() + 1) * PARAMETER_WORDS, 0);
        self.dispatches.push(Dispatch { key, kernel, buffers, grid });
    }

    /// Adds words to the step's data and gives the index of the first.
    pub(crate) fn data(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = self.data.len() as u32;
        self.data.extend(words);
        at
    }

    /// Submits what was recorded as one compute pass, and `copies` after it in the same command buffer.
    pub(crate) fn submit(&mut self, copies: &[Copy<'_>]) {
        if self.dispatches.is_empty() && copies.is_empty() {
            return;
        }
        self.write_step();
        let device = self.device.clone();
        let mut encoder =
            device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let dispatches = std::mem::take(&mut self.dispatches);
        self.meter.dispatches.add(dispatches.len() as u64);
        if !dispatches.is_empty() {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
            let mut current = None;
            for (i, Dispatch { key, kernel, buffers, grid }) in dispatches.into_iter().enumerate() {
                let group = self.group(key, &kernel, buffers);
                if current != Some(Arc::as_ptr(&kernel)) {
                    pass.set_pipeline(&kernel.pipeline);
                    current = Some(Arc::as_ptr(&kernel));
                }
                pass.set_bind_group(0, group, &[(i * PARAMETER_BYTES) as u32]);
                pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
            }
        }
        for copy in copies {
            let ((from, from_at), (to, to_at)) = (copy.from, copy.to);
            encoder.copy_buffer_to_buffer(&from.raw, from_at, &to.raw, to_at, copy.bytes);
        }
        self.device.queue.submit([encoder.finish()]);
        self.meter.submits.add(1);
        self.parameters.clear();
        self.data.clear();
    }

    /// The bind group over `buffers`.
    fn group(&mut self, key: Key, kernel: &Kernel, buffers: Vec<Bind>) -> &wgpu::BindGroup {
        let Self { groups, step, device, meter, .. } = self;
        groups.entry((key, buffers)).or_insert_with_key(|(_, buffers)| {
            meter.bind_groups.add(1);
            let parameters = wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &step.parameters.raw,
                    offset: 0,
                    size: wgpu::BufferSize::new(PARAMETER_BYTES as u64),
                }),
            };
            let storage = buffers.iter().zip(1..).map(|(bind, binding)| {
                let buffer = match bind {
                    Bind::Buffer(buffer) => buffer,
                    Bind::StepData => &step.data,
                };
                wgpu::BindGroupEntry { binding, resource: buffer.raw.as_entire_binding() }
            });
            let entries: Vec<_> = std::iter::once(parameters).chain(storage).collect();
            device.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &kernel.layout,
                entries: &entries,
            })
        })
    }

    /// Writes parameters and data, into larger memory if they do not fit.
    fn write_step(&mut self) {
        let (parameters, data) = (self.parameters.len() as u64 * 4, self.data.len() as u64 * 4);
        if parameters > self.step.parameters.raw.size() || data > self.step.data.raw.size() {
            self.step = StepMemory::new(&self.device, &self.meter, parameters, data);
            self.groups.clear();
        }
        let queue = &self.device.queue;
        if parameters > 0 {
            queue.write_buffer(&self.step.parameters.raw, 0, bytemuck::cast_slice(&self.parameters));
        }
        if data > 0 {
            queue.write_buffer(&self.step.data.raw, 0, bytemuck::cast_slice(&self.data));
        }
        self.meter.bytes_written.add(parameters + data);
    }
}

/// Where parameters and step data lie on the device. One memory serves all steps: writes and submissions keep their order.
struct StepMemory {
    parameters: Buffer,
    data: Buffer,
}

impl StepMemory {
    /// Memory of twice what is needed now, and from the start enough for most models, since growing costs all bind groups.
    fn new(device: &Device, meter: &Meter, parameters: u64, data: u64) -> Self {
        let bytes = |needed: u64| (needed * 2).next_power_of_two().max(128 * 1024);
        let usage = wgpu::BufferUsages::COPY_DST;
        Self {
            parameters: Buffer::new(
                device,
                meter,
                "parameters",
                bytes(parameters),
                usage | wgpu::BufferUsages::UNIFORM,
            ),
            data: Buffer::new(device, meter, "step data", bytes(data), usage | wgpu::BufferUsages::STORAGE),
        }
    }
}
