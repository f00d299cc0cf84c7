//! Which arithmetic: the GPU's or the processor's, and why.

use std::time::Duration;

use reprise_compute::Cpu;
use reprise_gguf::{Gguf, TensorInfo};
use reprise_gpu::{Gpu, GpuOptions};

use crate::error::{Failure, Kind};
use crate::host::Host;
use crate::options::{BackendChoice, LoadOptions};
use crate::source::JsSource;
use crate::{helpers, memory, probe};

/// A backend that was opened.
pub(crate) enum Opened {
    Gpu(Box<Gpu>),
    Cpu(Cpu),
}

/// Opens the backend that the options ask for. `auto` takes the faster one where there are two.
///
/// # Errors
/// [`Kind::Gpu`] when only the GPU would do and there is none.
pub(crate) async fn open(
    options: &LoadOptions,
    host: &Host,
    source: &JsSource,
    gguf: &Gguf,
) -> Result<(Opened, String), Failure> {
    if options.backend == BackendChoice::Wasm {
        return Ok((cpu(options, host), "it was asked for".to_owned()));
    }
    let gpu = Gpu::open(&gpu_options(options)).await;
    match (gpu, options.backend) {
        (Ok(gpu), BackendChoice::WebGpu) => Ok((Opened::Gpu(Box::new(gpu)), "it was asked for".to_owned())),
        (Err(error), BackendChoice::WebGpu) => Err(Failure::new(
            Kind::Gpu,
            format!("{error}. Use `backend: \"wasm\"`, or a browser and a GPU with WebGPU"),
        )),
        (Err(error), _) => Ok((cpu(options, host), format!("there is no WebGPU: {error}"))),
        (Ok(gpu), _) => faster(gpu, options, host, source, gguf).await,
    }
}

fn cpu(options: &LoadOptions, host: &Host) -> Opened {
    Opened::Cpu(helpers::cpu(options.threads, host))
}

fn gpu_options(options: &LoadOptions) -> GpuOptions {
    let (asked, best) = (options.gpu, GpuOptions::default());
    GpuOptions {
        subgroups: asked.subgroups.unwrap_or(best.subgroups),
        dot4: asked.dot4.unwrap_or(best.dot4),
        f16: asked.f16.unwrap_or(best.f16),
        row_tile: asked.row_tile.unwrap_or(best.row_tile),
        ..best
    }
}

async fn faster(
    mut gpu: Gpu,
    options: &LoadOptions,
    host: &Host,
    source: &JsSource,
    gguf: &Gguf,
) -> Result<(Opened, String), Failure> {
    let weights: u64 = gguf.tensors().map(TensorInfo::bytes).sum();
    if weights > memory::module_left() {
        return Ok((Opened::Gpu(Box::new(gpu)), "the model is larger than the module's memory".to_owned()));
    }
    let Some(tensor) = probe::matrix(gguf) else {
        return Ok((Opened::Gpu(Box::new(gpu)), "the model has no matrix to measure with".to_owned()));
    };
    let on_gpu = match probe::measure(&mut gpu, tensor, source).await {
        Ok(time) => time,
        Err(error) => return Ok((cpu(options, host), format!("WebGPU failed: {error}"))),
    };
    let mut cpu = helpers::cpu(options.threads, host);
    let on_cpu = probe::measure(&mut cpu, tensor, source)
        .await
        .map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let reason = format!(
        "{} products with {} take {:.3} ms on WebGPU and {:.3} ms on the processor",
        probe::PRODUCTS,
        tensor.name,
        ms(on_gpu),
        ms(on_cpu)
    );
    let opened = if on_gpu < on_cpu { Opened::Gpu(Box::new(gpu)) } else { Opened::Cpu(cpu) };
    Ok((opened, reason))
}
