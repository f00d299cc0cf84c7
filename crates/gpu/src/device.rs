//! The adapter and its device: opened once, shared by every [`crate::Gpu`] that is cloned from the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reprise_compute::ComputeError;

use crate::GpuError;
use crate::counters::Meter;
use crate::kernel::{Kernel, Key};

/// Which of the adapter's features are used, where it has them. The default takes all but the integer products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuOptions {
    /// Reductions by subgroup operations.
    pub subgroups: bool,
    /// Integer dot products of packed 8-bit values. Activations are rounded to 8 bits, as the CPU backend does: the one variant
    /// that shows in the logits (`NOTES.md`), so it has to be asked for.
    pub dot4: bool,
    /// f16 arithmetic in shaders.
    pub f16: bool,
    /// Largest storage binding that is used, bytes; `None` uses what the adapter allows. Tests split small tensors with it.
    pub binding_limit: Option<u64>,
    /// Most rows that a product computes together: 1, 2, 4 or 8. Fewer make shorter shaders, which a software adapter compiles
    /// in a fraction of the time; the sums are the same bits.
    pub row_tile: u32,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { subgroups: true, dot4: false, f16: true, binding_limit: None, row_tile: 8 }
    }
}

impl GpuOptions {
    /// Plain WGSL only.
    #[must_use]
    pub fn plain() -> Self {
        Self { subgroups: false, dot4: false, f16: false, ..Self::default() }
    }
}

/// A device with everything that is made once for it.
pub(crate) struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) limits: wgpu::Limits,
    /// The adapter's name, backend and driver.
    pub(crate) name: String,
    /// What the adapter has of what the options allow.
    pub(crate) features: GpuOptions,
    /// Smallest and largest number of invocations in a subgroup; 0 where unknown.
    pub(crate) subgroup_sizes: (u32, u32),
    /// Largest storage binding, bytes.
    pub(crate) binding_limit: u64,
    kernels: Mutex<HashMap<Key, Arc<Kernel>>>,
    trouble: Arc<Mutex<Trouble>>,
}

/// What went wrong behind the calls that caused it.
#[derive(Debug, Default)]
struct Trouble {
    lost: Option<String>,
    error: Option<String>,
}

/// Storage buffers that a kernel may bind, WebGPU's default limit.
const STORAGE_BUFFERS: u32 = 8;
/// Invocations of a workgroup, WebGPU's default limit.
const INVOCATIONS: u32 = 256;

impl Device {
    /// # Errors
    /// [`GpuError`] when there is no adapter, it gives no device, or is below WebGPU's default limits.
    pub(crate) async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = if cfg!(target_arch = "wasm32") {
            wgpu::Backends::BROWSER_WEBGPU
        } else {
            wgpu::Backends::PRIMARY
        };
        let instance = wgpu::Instance::new(descriptor);
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::Adapter(error.to_string()))?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let name = if info.name.is_empty() { format!("{:?}", info.backend) } else { info.name.clone() };
        for (what, wanted, found) in [
            ("storage buffers a kernel", STORAGE_BUFFERS, limits.max_storage_buffers_per_shader_stage),
            ("invocations a workgroup", INVOCATIONS, limits.max_compute_invocations_per_workgroup),
        ] {
            if found < wanted {
                let (wanted, found) = (wanted.into(), found.into());
                return Err(GpuError::Limit { adapter: name, what, wanted, found });
            }
        }
        let available = available(&adapter, &instance);
        let features = GpuOptions {
            subgroups: options.subgroups && available.subgroups,
            dot4: options.dot4 && available.dot4,
            f16: options.f16 && available.f16,
            binding_limit: options.binding_limit,
            row_tile: options.row_tile,
        };
        let binding_limit = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
            .min(options.binding_limit.unwrap_or(u64::MAX));
        let mut required = wgpu::Features::empty();
        required.set(wgpu::Features::SHADER_F16, features.f16);
        // wgpu 30 does not ask a browser for it (gfx-rs/wgpu#10146): a page that wraps `requestDevice` may.
        required.set(wgpu::Features::SUBGROUP, features.subgroups && !cfg!(target_arch = "wasm32"));
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("reprise"),
                required_features: required,
                required_limits: limits.clone(),
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::Device { adapter: name.clone(), reason: error.to_string() })?;
        let features = GpuOptions { subgroups: features.subgroups && has_subgroups(&device), ..features };
        let trouble = watch(&device);
        Ok(Self {
            device,
            queue,
            limits,
            name: format!("{name}, {:?}", info.backend),
            features,
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            binding_limit,
            kernels: Mutex::default(),
            trouble,
        })
    }

    /// The kernel of a key, made by `make` when it is first asked for.
    #[cfg_attr(
        target_arch = "wasm32",
        allow(clippy::arc_with_non_send_sync, reason = "shared between threads natively only")
    )]
    pub(crate) fn kernel(&self, key: &Key, meter: &Meter, make: impl FnOnce() -> Kernel) -> Arc<Kernel> {
        let mut kernels = lock(&self.kernels);
        if let Some(kernel) = kernels.get(key) {
            return kernel.clone();
        }
        meter.pipelines.add(1);
        let kernel = Arc::new(make());
        kernels.insert(key.clone(), kernel.clone());
        kernel
    }

    /// What the device reported since the last call, on its own account or about calls that cannot fail themselves.
    ///
    /// # Errors
    /// [`ComputeError::DeviceLost`] from the loss on, [`ComputeError::Device`] once for an error.
    pub(crate) fn check(&self) -> Result<(), ComputeError> {
        let mut trouble = lock(&self.trouble);
        if let Some(reason) = &trouble.lost {
            return Err(ComputeError::DeviceLost(reason.clone()));
        }
        trouble.error.take().map_or(Ok(()), |error| Err(ComputeError::Device(error)))
    }

    /// Destroys the device, as if it were lost.
    pub(crate) fn lose(&self) {
        lock(&self.trouble).lost.get_or_insert_with(|| "it was destroyed on purpose".to_owned());
        self.device.destroy();
    }
}

/// A panic elsewhere left nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(target_arch = "wasm32"))]
fn available(adapter: &wgpu::Adapter, _instance: &wgpu::Instance) -> GpuOptions {
    let features = adapter.features();
    GpuOptions {
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        // naga translates the packed dot product for every backend, to plain arithmetic where it must.
        dot4: true,
        f16: features.contains(wgpu::Features::SHADER_F16),
        ..GpuOptions::default()
    }
}

#[cfg(target_arch = "wasm32")]
fn available(adapter: &wgpu::Adapter, instance: &wgpu::Instance) -> GpuOptions {
    let language = instance.wgsl_language_features();
    GpuOptions {
        // Told by the device itself.
        subgroups: true,
        dot4: language.contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct),
        f16: adapter.features().contains(wgpu::Features::SHADER_F16),
        ..GpuOptions::default()
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn has_subgroups(device: &wgpu::Device) -> bool {
    device.features().contains(wgpu::Features::SUBGROUP)
}

#[cfg(target_arch = "wasm32")]
fn has_subgroups(device: &wgpu::Device) -> bool {
    device.as_webgpu().is_some_and(|device| device.features().has("subgroups"))
}

/// Errors that wgpu reports to a callback: without one, it panics.
fn watch(device: &wgpu::Device) -> Arc<Mutex<Trouble>> {
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let seen = trouble.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        lock(&seen).error.get_or_insert_with(|| error.to_string());
    }));
    let seen = trouble.clone();
    device.set_device_lost_callback(move |reason, message| {
        lock(&seen).lost.get_or_insert_with(|| format!("{reason:?}: {message}"));
    });
    trouble
}
