//! Inputs: the same numbers on every run, and weights as a file has them.

use std::cell::Cell;

use futures::executor::block_on;
use half::{bf16, f16};
use reprise_compute::reference::{Reference, Rounding};
use reprise_compute::{Backend, Pass, Readback, Readout, SequenceLayout, StepLayout};
use reprise_gguf::{GgmlDType, MemorySource};

use crate::counters::Meter;
use crate::device::Device;
use crate::weights::{GpuWeight, Vectors, upload};

/// The same numbers on every run.
pub(super) struct Numbers(Cell<u64>);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    fn bits(&self) -> u32 {
        self.0.set(
            self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
        );
        (self.0.get() >> 32) as u32
    }

    /// From -1 to 1.
    pub(super) fn float(&self) -> f32 {
        self.bits() as f32 / (1u32 << 31) as f32 - 1.0
    }

    pub(super) fn floats(&self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    /// Blocks of any bits, with scales that make values of about 1.
    fn blocks(&self, dtype: GgmlDType, elements: usize) -> Vec<u8> {
        let scale = |at: &mut [u8], size: f32| {
            at.copy_from_slice(&f16::from_f32(size * (1.0 + 0.5 * self.float())).to_le_bytes());
        };
        let mut bytes = Vec::new();
        for _ in 0..elements / dtype.block_size() {
            let mut block: Vec<u8> = (0..dtype.type_size()).map(|_| self.bits() as u8).collect();
            let scales: &[(usize, f32)] = match dtype {
                GgmlDType::F32 => {
                    block = self.float().to_le_bytes().to_vec();
                    &[]
                }
                GgmlDType::F16 => {
                    block = f16::from_f32(self.float()).to_le_bytes().to_vec();
                    &[]
                }
                GgmlDType::BF16 => {
                    block = bf16::from_f32(self.float()).to_le_bytes().to_vec();
                    &[]
                }
                GgmlDType::Q4_0 => &[(0, 0.15)],
                GgmlDType::Q4_1 => &[(0, 0.15), (2, -1.0)],
                GgmlDType::Q5_0 => &[(0, 0.07)],
                GgmlDType::Q5_1 => &[(0, 0.07), (2, -1.0)],
                GgmlDType::Q8_0 => &[(0, 0.01)],
                GgmlDType::Q2K => &[(80, 0.05), (82, 0.05)],
                GgmlDType::Q3K => &[(108, 0.01)],
                GgmlDType::Q4K | GgmlDType::Q5K => &[(0, 0.002), (2, 0.02)],
                _ => &[(208, 0.0005)],
            };
            for &(at, size) in scales {
                scale(&mut block[at..at + 2], size);
            }
            bytes.extend(block);
        }
        bytes
    }
}

/// A weight as a file has it.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) dtype: GgmlDType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bytes: Vec<u8>,
}

impl Matrix {
    pub(super) fn new(seed: u64, dtype: GgmlDType, rows: usize, cols: usize) -> Self {
        Self { dtype, rows, cols, bytes: Numbers::new(seed).blocks(dtype, rows * cols) }
    }

    pub(super) fn vector(elements: &[f32]) -> Self {
        let bytes = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { dtype: GgmlDType::F32, rows: 1, cols: elements.len(), bytes }
    }

    /// On the device, after bytes of something else in the same file.
    pub(super) fn upload(&self, device: &Device, vectors: &Vectors) -> GpuWeight {
        let source = MemorySource([&[7; 5][..], &self.bytes].concat().into());
        let range = 5..5 + self.bytes.len() as u64;
        let meter = Meter::default();
        let weight = upload(device, &meter, vectors, self.dtype, self.rows, self.cols, &source, range);
        block_on(weight).expect("a weight")
    }

    /// The elements, by the reference backend.
    pub(super) fn elements(&self) -> Vec<f64> {
        let mut reference = Reference::new(Rounding::Exact);
        let source = MemorySource(self.bytes.clone().into());
        let range = 0..self.bytes.len() as u64;
        let table =
            block_on(reference.weight(self.dtype, self.rows, self.cols, &source, range)).expect("a weight");
        let mut out = reference.tensor(self.rows, self.cols).expect("a tensor");
        let blocks: Vec<u32> = (0..self.rows as u32).collect();
        let sequences = [SequenceLayout { rows: 0..self.rows, start: 0, blocks: &blocks }];
        let layout = StepLayout { sequences: &sequences };
        let mut pass = reference.pass(&layout);
        pass.embed(&table, &blocks, 1.0, &mut out);
        let mut read = Readout::default();
        block_on(pass.finish(Readback::Rows(&out), &mut read)).expect("the rows");
        read.values.into_iter().map(f64::from).collect()
    }
}
