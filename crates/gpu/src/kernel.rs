//! A kernel: one WGSL entry point, compiled, with what it binds.
//!
//! Every kernel has one group: its parameters (a uniform of up to [`PARAMETER_BYTES`], at a dynamic offset) at binding 0
//! and its storage buffers from binding 1 on.

use crate::device::Device;
use crate::linear::LinearKernel;

/// Bytes of one dispatch's parameters: WebGPU's default alignment of dynamic offsets.
pub(crate) const PARAMETER_BYTES: usize = 256;

/// How a kernel uses a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// What a compiled kernel is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An operation of `ops`, with the constants of its variant.
    Op(&'static str, Vec<u32>),
    /// A matrix product.
    Linear(LinearKernel),
}

/// A compiled entry point `main`.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

impl Kernel {
    /// Compiles `source`, which uses WGSL's extensions `enables`, and its storage bindings as `accesses` say.
    pub(crate) fn compile(
        device: &Device,
        label: &str,
        accesses: &[Access],
        enables: &[&str],
        source: &str,
    ) -> Self {
        let device = &device.device;
        let directives: String = enables
            .iter()
            // naga knows subgroup operations without the directive and rejects it; browsers insist on it.
            .filter(|extension| **extension != "subgroups" || cfg!(target_arch = "wasm32"))
            .map(|extension| format!("enable {extension};\n"))
            .collect();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl((directives + source).into()),
        });
        let uniform = entry(0, wgpu::BufferBindingType::Uniform);
        let storage = accesses.iter().zip(1..).map(|(&access, binding)| {
            entry(binding, wgpu::BufferBindingType::Storage { read_only: access == Access::Read })
        });
        let entries: Vec<_> = std::iter::once(uniform).chain(storage).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // Every kernel fills its workgroup memory before it reads it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Self { pipeline, layout }
    }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: ty == wgpu::BufferBindingType::Uniform,
            min_binding_size: None,
        },
        count: None,
    }
}
