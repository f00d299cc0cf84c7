//! Weights larger than a binding, and the grid of many outputs.

use futures::executor::block_on;
use reprise_compute::ComputeError;
use reprise_gguf::{GgmlDType, MemorySource};

use super::bench::{Product, device, error};
use super::inputs::Matrix;
use super::{Epilogue, Variant};
use crate::GpuOptions;
use crate::counters::Meter;
use crate::device::Device;
use crate::weights::{Vectors, upload};

fn narrow(binding_limit: u64) -> Device {
    let options = GpuOptions { binding_limit: Some(binding_limit), ..GpuOptions::plain() };
    block_on(Device::open(&options)).expect("an adapter")
}

#[test]
fn split_weights_compute_the_same() {
    let narrow = narrow(1024);
    let q = [(GgmlDType::Q4_1, 40), (GgmlDType::Q4_1, 10), (GgmlDType::F16, 40)];
    for product in [
        Product::new(&q, 96, 3, Epilogue::Store).with_biases(),
        Product::new(&q[..1], 96, 9, Epilogue::Add).with_norm(),
        Product::new(&[q[0], q[0]], 96, 1, Epilogue::Silu).with_norm().with_biases(),
    ] {
        let found = product.compute(&narrow, Variant::default());
        assert!(error(&found, &product.expected()) < 1e-5);
        assert_eq!(found, product.compute(device(), Variant::default()));
    }
}

#[test]
fn parts_hold_whole_rows_within_the_limit() {
    let weight = Matrix::new(1, GgmlDType::Q8_0, 50, 96).upload(&narrow(1000), &Vectors::default());
    // 3 blocks of 34 bytes, padded to 112: 8 rows a part.
    assert_eq!(weight.row_quads, 7);
    let parts: Vec<_> =
        weight.parts.iter().map(|part| (part.first, part.rows, part.buffer.raw.size())).collect();
    assert_eq!(parts.len(), 7);
    assert_eq!(parts[0], (0, 8, 896));
    assert_eq!(parts[6], (48, 2, 224));
}

#[test]
fn what_cannot_be_uploaded_is_refused() {
    let upload = |device: &Device, dtype, rows, cols, bytes: usize| {
        let source = MemorySource(vec![0; 1 << 16].into());
        let (vectors, meter) = (Vectors::default(), Meter::default());
        let weight = upload(device, &meter, &vectors, dtype, rows, cols, &source, 0..bytes as u64);
        block_on(weight).map(|_| ())
    };
    let device = device();
    assert!(matches!(upload(device, GgmlDType::Q8K, 2, 256, 584), Err(ComputeError::UnsupportedType(_))));
    assert!(matches!(upload(device, GgmlDType::Q4_1, 2, 48, 60), Err(ComputeError::Length { .. })));
    assert!(matches!(upload(device, GgmlDType::Q4_1, 2, 64, 79), Err(ComputeError::Length { .. })));
    assert!(matches!(upload(device, GgmlDType::F32, 200, 100, 80_000), Err(ComputeError::Source(_))));
    let message =
        upload(&narrow(64), GgmlDType::F32, 2, 32, 256).expect_err("a row of 128 bytes").to_string();
    assert!(message.contains("128 bytes") && message.contains("64 at a time"), "{message}");
}

#[test]
fn a_large_weight_comes_in_pieces() {
    // 12 MB: two pieces of at most 8 MiB.
    let matrix = Matrix::new(1, GgmlDType::F32, 3000, 1000);
    let source = Counted(MemorySource(matrix.bytes.clone().into()), Default::default());
    let range = 0..matrix.bytes.len() as u64;
    let (vectors, meter) = (Vectors::default(), Meter::default());
    let weight = block_on(upload(device(), &meter, &vectors, matrix.dtype, 3000, 1000, &source, range))
        .expect("a weight");
    assert!(source.1.borrow().iter().all(|&bytes| bytes <= 8 << 20), "{:?}", source.1);
    assert_eq!(source.1.borrow().iter().sum::<u64>(), 12_000_000);
    let last = super::bench::read(device(), &weight.parts[0].buffer, 3_000_000);
    assert_eq!(bytemuck::cast_slice::<f32, u8>(&last), &matrix.bytes[..]);
}

/// Counts the bytes of each read.
struct Counted(MemorySource, std::cell::RefCell<Vec<u64>>);

impl reprise_gguf::ModelSource for Counted {
    fn len(&self) -> u64 {
        self.0.len()
    }

    async fn read(&self, range: std::ops::Range<u64>) -> Result<bytes::Bytes, reprise_gguf::SourceError> {
        self.1.borrow_mut().push(range.end - range.start);
        self.0.read(range).await
    }
}
