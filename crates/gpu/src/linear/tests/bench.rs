//! A device to run kernels on, and products with what should come out of them.

use std::sync::{Mutex, OnceLock};

use futures::executor::block_on;
use reprise_gguf::GgmlDType;

use super::inputs::{Matrix, Numbers};
use super::{Epilogue, LinearOp, LinearOutput, Variant, plan};
use crate::GpuOptions;
use crate::buffer::Buffer;
use crate::counters::Meter;
use crate::device::Device;
use crate::kernel::Access;
use crate::weights::Vectors;

/// One device for all tests: opening one is slow.
pub(super) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| block_on(Device::open(&GpuOptions::default())).expect("an adapter"))
}

/// What the adapter has, one variant each; plain WGSL first.
pub(super) fn variants() -> Vec<Variant> {
    let (device, plain) = (device(), Variant::default());
    let mut variants = vec![plain];
    if device.features.subgroups {
        variants.push(Variant { subgroup: device.subgroup_sizes.0, ..plain });
        // As on an adapter with narrower subgroups.
        variants.push(Variant { subgroup: 4, ..plain });
    }
    if device.features.dot4 {
        variants.push(Variant { dot4: true, ..plain });
    }
    if device.features.f16 {
        variants.push(Variant { f16: true, ..plain });
    }
    variants
}

/// A product to compute and to check.
#[derive(Debug, Clone)]
pub(super) struct Product {
    pub(super) weights: Vec<Matrix>,
    pub(super) biases: Vec<Option<Vec<f32>>>,
    pub(super) norm: Option<(Vec<f32>, f32)>,
    pub(super) epilogue: Epilogue,
    pub(super) x: Vec<f32>,
}

impl Product {
    /// `rows` activation rows times weights `(type, width)`, without norm and biases.
    pub(super) fn new(weights: &[(GgmlDType, usize)], cols: usize, rows: usize, epilogue: Epilogue) -> Self {
        let weights: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(&(dtype, width), seed)| Matrix::new(seed, dtype, width, cols))
            .collect();
        let biases = vec![None; weights.len()];
        Self { weights, biases, norm: None, epilogue, x: Numbers::new(99).floats(rows * cols) }
    }

    pub(super) fn with_norm(mut self) -> Self {
        let weight = Numbers::new(77).floats(self.cols()).iter().map(|x| 1.0 + 0.5 * x).collect();
        self.norm = Some((weight, 1e-5));
        self
    }

    /// A bias for every weight but the second.
    pub(super) fn with_biases(mut self) -> Self {
        for (i, (bias, weight)) in self.biases.iter_mut().zip(&self.weights).enumerate() {
            *bias = (i != 1).then(|| Numbers::new(50 + i as u64).floats(weight.rows));
        }
        self
    }

    pub(super) fn cols(&self) -> usize {
        self.weights[0].cols
    }

    pub(super) fn rows(&self) -> usize {
        self.x.len() / self.cols()
    }

    /// How many outputs the epilogue leaves.
    fn outs(&self) -> usize {
        if self.epilogue.is_gate() { 1 } else { self.weights.len() }
    }

    /// What an output holds before.
    fn before(&self, output: usize) -> Vec<f32> {
        Numbers::new(30 + output as u64).floats(self.rows() * self.weights[output].rows)
    }

    /// The outputs, one after the other, in f64.
    pub(super) fn expected(&self) -> Vec<f64> {
        let cols = self.cols();
        let mut x: Vec<f64> = self.x.iter().map(|&x| x.into()).collect();
        if let Some((weight, epsilon)) = &self.norm {
            for row in x.chunks_exact_mut(cols) {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
                let scale = 1.0 / (mean + f64::from(*epsilon)).sqrt();
                row.iter_mut().zip(weight).for_each(|(x, &w)| *x *= scale * f64::from(w));
            }
        }
        let products: Vec<Vec<f64>> = self
            .weights
            .iter()
            .zip(&self.biases)
            .map(|(weight, bias)| {
                let elements = weight.elements();
                let rows = x.chunks_exact(cols).flat_map(|x| {
                    elements.chunks_exact(cols).enumerate().map(move |(output, w)| {
                        let bias = bias.as_ref().map_or(0.0, |bias| bias[output].into());
                        x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + bias
                    })
                });
                rows.collect()
            })
            .collect();
        let gated = |gate: fn(f64) -> f64| {
            products[0].iter().zip(&products[1]).map(|(&y, up)| gate(y) * up).collect()
        };
        match self.epilogue {
            Epilogue::Store => products.concat(),
            Epilogue::Add => products
                .iter()
                .enumerate()
                .flat_map(|(i, ys)| {
                    ys.iter().zip(self.before(i)).map(|(y, b)| y + f64::from(b)).collect::<Vec<_>>()
                })
                .collect(),
            Epilogue::Silu => gated(|y| y / (1.0 + (-y).exp())),
            Epilogue::Gelu => {
                gated(|y| 0.5 * y * (1.0 + (0.797_884_560_802_865_4 * (y + 0.044_715 * y * y * y)).tanh()))
            }
        }
    }

    /// The outputs by the kernels.
    pub(super) fn compute(&self, device: &Device, variant: Variant) -> Vec<f32> {
        let vectors = Vectors::default();
        let meter = Meter::default();
        let weights: Vec<_> = self.weights.iter().map(|weight| weight.upload(device, &vectors)).collect();
        let vector = |elements: &Vec<f32>| Matrix::vector(elements).upload(device, &vectors);
        let biases: Vec<_> = self.biases.iter().map(|bias| bias.as_ref().map(vector)).collect();
        let norm = self.norm.as_ref().map(|(weight, epsilon)| (vector(weight), *epsilon));
        let buffer = |values: &[f32]| {
            let bytes = (values.len() as u64 * 4).next_multiple_of(16);
            let buffer = Buffer::storage(device, &meter, "test", bytes).expect("a buffer");
            device.queue.write_buffer(&buffer.raw, 0, bytemuck::cast_slice(values));
            buffer
        };
        let x = buffer(&self.x);
        let outs: Vec<_> = (0..self.weights.len()).map(|i| buffer(&self.before(i))).collect();
        let outputs: Vec<_> = weights
            .iter()
            .zip(&biases)
            .zip(&outs)
            .map(|((weight, bias), out)| LinearOutput { weight, bias: bias.as_ref(), out })
            .collect();
        let op = LinearOp {
            x: &x,
            rows: self.rows() as u32,
            norm: norm.as_ref().map(|(weight, epsilon)| (weight, *epsilon)),
            outputs: &outputs,
            epilogue: self.epilogue,
        };
        for dispatch in plan(&op, variant) {
            run(
                device,
                &dispatch.kernel.source(),
                &dispatch.kernel.enables(),
                &dispatch.kernel.accesses(),
                &dispatch.params,
                &dispatch.buffers,
                dispatch.grid,
            );
        }
        let read = |(i, out): (usize, &Buffer)| read(device, out, self.rows() * self.weights[i].rows);
        outs.iter().enumerate().take(self.outs()).flat_map(read).collect()
    }
}

/// The compiled kernel. Compiling takes most of the time of these tests, so the shared device's are kept.
fn pipeline(device: &Device, source: &str, enables: &[&str]) -> wgpu::ComputePipeline {
    static COMPILED: Mutex<Vec<(String, wgpu::ComputePipeline)>> = Mutex::new(Vec::new());
    let shared = std::ptr::eq(device, self::device());
    let mut compiled = COMPILED.lock().expect("no panic while compiling");
    if let Some((_, pipeline)) = compiled.iter().find(|(of, _)| shared && of == source) {
        return pipeline.clone();
    }
    let enables: String = enables
        .iter()
        .filter(|e| **e != "subgroups")
        .map(|extension| format!("enable {extension};\n"))
        .collect();
    let module = device.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl((enables + source).into()),
    });
    let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    if shared {
        compiled.push((source.to_owned(), pipeline.clone()));
    }
    pipeline
}

/// Dispatches a kernel and waits.
pub(super) fn run(
    device: &Device,
    source: &str,
    enables: &[&str],
    accesses: &[Access],
    params: &[u32],
    buffers: &[&Buffer],
    grid: [u32; 3],
) {
    assert_eq!(accesses.len(), buffers.len());
    assert!(params.len() <= 64 && buffers.len() <= 8);
    let pipeline = pipeline(device, source, enables);
    let uniform = Buffer::new(
        device,
        &Meter::default(),
        "params",
        256,
        wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
    );
    device.queue.write_buffer(&uniform.raw, 0, bytemuck::cast_slice(params));
    let entries: Vec<_> = std::iter::once(&uniform)
        .chain(buffers.iter().copied())
        .zip(0..)
        .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.raw.as_entire_binding() })
        .collect();
    let group = device.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = device.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
    device.queue.submit([encoder.finish()]);
    device.check().unwrap_or_else(|error| panic!("{error}"));
}

/// The first `len` f32 of a buffer.
pub(super) fn read(device: &Device, buffer: &Buffer, len: usize) -> Vec<f32> {
    let bytes = len as u64 * 4;
    let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
    let staging = Buffer::new(device, &Meter::default(), "read", bytes, usage);
    let mut encoder = device.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(&buffer.raw, 0, &staging.raw, 0, bytes);
    device.queue.submit([encoder.finish()]);
    staging.raw.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("a mapping"));
    device.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device");
    let view = staging.raw.get_mapped_range(..).expect("a view");
    // A mapping may be longer than was asked for.
    bytemuck::pod_collect_to_vec(&view[..4 * len])
}

/// The largest difference as a part of the expected values' root mean square.
pub(super) fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64;
    let differences = found.iter().zip(expected).map(|(&f, &e)| (f64::from(f) - e).abs());
    // A NaN is never larger, so it counts as the worst.
    differences.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst }) / square.sqrt()
}
