//! Rotary position embedding, with the sines of a step computed once for each [`Rope`].

use super::Threads;
use super::tensor::CpuTensor;
use crate::kernels::{Isa, cells};
use crate::{ComputeError, KvType, Pairing, Rope};

/// Tables kept; a model uses one or two different ropes.
const KEPT: usize = 4;

/// Sines and cosines of the current step.
#[derive(Debug, Default)]
pub(super) struct Rotations {
    tables: Vec<Table>,
}

/// `[row][pair]` for one rope.
#[derive(Debug)]
struct Table {
    rope: Rope,
    sin_cos: Vec<[f32; 2]>,
    current: bool,
}

impl Rotations {
    /// Forgets the positions of the last step.
    pub(super) fn start_step(&mut self) {
        for table in &mut self.tables {
            table.current = false;
        }
    }

    /// `(sin, cos)` of every pair of every row.
    fn table(&mut self, rope: &Rope, positions: &[usize]) -> &[[f32; 2]] {
        let index = match self.tables.iter().position(|t| t.rope == *rope) {
            Some(index) => index,
            None => {
                if self.tables.len() == KEPT {
                    self.tables.remove(0);
                }
                self.tables.push(Table { rope: rope.clone(), sin_cos: Vec::new(), current: false });
                self.tables.len() - 1
            }
        };
        let table = &mut self.tables[index];
        if !table.current {
            table.sin_cos.clear();
            for &position in positions {
                table.sin_cos.extend(rope.inverse_frequencies.iter().map(|&f| sin_cos(position as f64, f)));
            }
            table.current = true;
        }
        &table.sin_cos
    }
}

/// Rotates every head of every row by the row's position.
pub(super) fn rope(
    threads: &Threads,
    rotations: &mut Rotations,
    positions: &[usize],
    x: &mut CpuTensor,
    head_dim: usize,
    rope: &Rope,
) -> Result<(), ComputeError> {
    let pairs = check(rope, head_dim)?;
    let (width, rows) = (x.width(), x.rows());
    if rows != positions.len() || !width.is_multiple_of(head_dim) {
        let detail =
            format!("{rows} rows of {width} for {} positions and heads of {head_dim}", positions.len());
        return Err(ComputeError::Operands { op: "rope", detail });
    }
    if pairs == 0 {
        return Ok(());
    }
    let table = rotations.table(rope, positions);
    let per_chunk = threads.pool.rows_per_chunk(rows, width);
    threads.pool.chunks(x.as_mut_slice(), per_chunk * width, |chunk, x| {
        let table = &table[chunk * per_chunk * pairs..];
        threads.isa.run(
            #[inline(always)]
            || {
                for (row, table) in x.chunks_exact_mut(width).zip(table.chunks_exact(pairs)) {
                    for head in row.chunks_exact_mut(head_dim) {
                        rotate(head, table, rope.pairing);
                    }
                }
            },
        );
    });
    Ok(())
}

/// Rotates the heads of stored keys by `delta` positions.
pub(super) fn rotate_stored(
    isa: Isa,
    (keys, kv_type): (&mut [u8], KvType),
    head_dim: usize,
    delta: i32,
    rope: &Rope,
) -> Result<(), ComputeError> {
    check(rope, head_dim)?;
    let table: Vec<_> = rope.inverse_frequencies.iter().map(|&f| sin_cos(f64::from(delta), f)).collect();
    let mut wide = vec![0f32; head_dim];
    for head in keys.chunks_exact_mut(kv_type.bytes(head_dim)) {
        cells::load(isa, kv_type, head, &mut wide);
        rotate(&mut wide, &table, rope.pairing);
        cells::store(isa, kv_type, &wide, head);
    }
    Ok(())
}

#[inline(always)]
fn rotate(head: &mut [f32], table: &[[f32; 2]], pairing: Pairing) {
    match pairing {
        Pairing::Adjacent => {
            for ([x, y], [sin, cos]) in head.as_chunks_mut::<2>().0.iter_mut().zip(table) {
                (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
            }
        }
        Pairing::Halves => {
            let (low, high) = head.split_at_mut(table.len());
            for ((x, y), [sin, cos]) in low.iter_mut().zip(high).zip(table) {
                (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
            }
        }
    }
}

/// The angle is formed in f64: at position 100,000 an f32 angle would be off by a hundredth of a radian.
fn sin_cos(position: f64, inverse_frequency: f32) -> [f32; 2] {
    let (sin, cos) = (position * f64::from(inverse_frequency)).sin_cos();
    [sin as f32, cos as f32]
}

/// Pairs of the rope, which must fit the head.
fn check(rope: &Rope, head_dim: usize) -> Result<usize, ComputeError> {
    let pairs = rope.inverse_frequencies.len();
    if head_dim == 0 || pairs * 2 > head_dim {
        let detail = format!("{pairs} pairs do not fit a head of {head_dim}");
        return Err(ComputeError::Operands { op: "rope", detail });
    }
    Ok(pairs)
}
