//! Bringing a weight from a model file into GPU memory, a few rows at a time.

use std::ops::Range;

use reprise_compute::ComputeError;
use reprise_gguf::{GgmlDType, ModelSource};

use super::layout::{Layout, QUAD_BYTES};
use super::{GpuWeight, Part, Vectors, shader};
use crate::buffer::Buffer;
use crate::counters::Meter;
use crate::device::Device;

/// Most bytes read from the source and held at a time, unless a single row has more.
const PIECE_BYTES: usize = 8 << 20;

/// Uploads the rows in `range` of `source`, split into parts that the device can bind. One row of floats becomes
/// an f32 vector.
///
/// # Errors
/// [`ComputeError`] when there is no kernel for the type, the length does not fit the shape, a single row is larger than a
/// binding, the source fails or the device has no memory left.
#[expect(clippy::too_many_arguments, reason = "where to, what and where from, all needed once")]
pub(crate) async fn upload<S: ModelSource>(
    device: &Device,
    meter: &Meter,
    vectors: &Vectors,
    dtype: GgmlDType,
    rows: usize,
    cols: usize,
    source: &S,
    range: Range<u64>,
) -> Result<GpuWeight, ComputeError> {
    let layout = Layout::new(dtype, cols).ok_or(ComputeError::UnsupportedType(dtype))?;
    let found = range.end.saturating_sub(range.start);
    let wanted = (layout.file_bytes() as u64).checked_mul(rows as u64);
    if !cols.is_multiple_of(dtype.block_size()) || rows == 0 || cols == 0 || wanted != Some(found) {
        let wanted = wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(usize::MAX);
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        return Err(ComputeError::Length { what: "a weight", wanted, found });
    }
    if rows == 1 && !shader::is_quantised(dtype) {
        let bytes = source.read(range).await?;
        return vector(device, meter, vectors, &shader::floats(dtype, &bytes).unwrap_or_default());
    }
    let mut parts = parts(device, meter, &layout, rows)?;
    for part in &mut parts {
        fill(device, meter, &layout, part, source, range.start).await?;
    }
    device.check()?;
    let row_quads = (layout.row_bytes() / QUAD_BYTES) as u32;
    Ok(GpuWeight { dtype, rows, cols, row_quads, parts })
}

fn vector(
    device: &Device,
    meter: &Meter,
    vectors: &Vectors,
    elements: &[f32],
) -> Result<GpuWeight, ComputeError> {
    let mut bytes = bytemuck::cast_slice(elements).to_vec();
    bytes.resize(bytes.len().next_multiple_of(QUAD_BYTES), 0);
    let (buffer, at) = vectors.take(device, meter, bytes.len() as u64)?;
    device.queue.write_buffer(&buffer.raw, at, &bytes);
    meter.bytes_written.add(bytes.len() as u64);
    let part = Part { buffer, base: (at / QUAD_BYTES as u64) as u32, first: 0, rows: 1 };
    Ok(GpuWeight {
        dtype: GgmlDType::F32,
        rows: 1,
        cols: elements.len(),
        row_quads: (bytes.len() / QUAD_BYTES) as u32,
        parts: vec![part],
    })
}

/// Empty memory for the rows, as few parts as the binding limit allows.
fn parts(device: &Device, meter: &Meter, layout: &Layout, rows: usize) -> Result<Vec<Part>, ComputeError> {
    let row_bytes = layout.row_bytes() as u64;
    let fitting = usize::try_from(device.binding_limit / row_bytes).unwrap_or(usize::MAX).min(rows);
    if fitting == 0 {
        let limit = device.binding_limit;
        let detail =
            format!("a row of a weight takes {row_bytes} bytes, but the GPU binds {limit} at a time");
        return Err(ComputeError::Device(detail));
    }
    (0..rows)
        .step_by(fitting)
        .map(|first| {
            let rows = fitting.min(rows - first);
            let buffer = Buffer::storage(device, meter, "weight", rows as u64 * row_bytes)?;
            Ok(Part { buffer, base: 0, first: first as u32, rows: rows as u32 })
        })
        .collect()
}

/// Writes a part's rows; the weight begins at `start` of the source.
async fn fill<S: ModelSource>(
    device: &Device,
    meter: &Meter,
    layout: &Layout,
    part: &Part,
    source: &S,
    start: u64,
) -> Result<(), ComputeError> {
    let at_once = (PIECE_BYTES / layout.row_bytes()).max(1);
    let (first, rows) = (part.first as usize, part.rows as usize);
    let mut packed = Vec::new();
    for row in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - row);
        let from = start + ((first + row) as u64) * layout.file_bytes() as u64;
        let bytes = source.read(from..from + (count * layout.file_bytes()) as u64).await?;
        packed.clear();
        layout.repack(&bytes, &mut packed);
        device.queue.write_buffer(&part.buffer.raw, (row * layout.row_bytes()) as u64, &packed);
        meter.bytes_written.add(packed.len() as u64);
        if packed.len() * 4 > PIECE_BYTES {
            // What is written waits in staging memory until something is submitted.
            device.queue.submit([]);
            meter.submits.add(1);
        }
    }
    Ok(())
}
