//! The same token alone and in company, by equality.

use super::attention::Attend;
use super::inputs::{TYPES, floats};
use super::linear::Linear;
use super::{Case, Report, compare};
use crate::{Backend, ComputeError, KvType};

/// Each row of a product alone, and all rows together.
pub(super) async fn linear<B: Backend>(make: impl Fn() -> B, report: &mut Report) {
    for dtype in TYPES {
        let (cols, out, rows) = (3 * dtype.block_size().max(32), 50, 31);
        let x = floats(5, rows * cols);
        let product =
            async |x: &[f32]| Linear::of(&[(dtype, out, false)], cols, x.to_vec()).compute(&mut make()).await;
        let together = product(&x).await;
        for count in [1, 2, 3, 4, 5, 9] {
            let mut apart = Ok(Vec::new());
            for part in x.chunks(count * cols) {
                apart = join(apart, product(part).await);
            }
            report.add(&format!("{dtype:?}, {count} rows at a time"), equal(&apart, &together));
        }
    }
}

/// Sequences prefilled together, one by one, and token by token.
pub(super) async fn attention<B: Backend>(make: impl Fn() -> B, report: &mut Report) {
    let sequences = vec![(290, 290), (40, 40), (531, 531)];
    for window in [None, Some(45)] {
        let softcap = window.map(|_| 20.0);
        let case = Attend {
            kv_heads: 2,
            head_dim: 24,
            heads: 6,
            window,
            softcap,
            sequences: sequences.clone(),
            stored: [KvType::F16; 2],
            seed: 50,
        };
        let steps = async |steps: &[Vec<(usize, usize)>]| {
            let mut backend = make();
            let mut kv = case.kv(&mut backend).await?;
            let mut all = Vec::new();
            for parts in steps {
                all.extend(case.attend(&mut backend, &mut kv, parts).await?);
            }
            Ok(all)
        };
        let together = steps(std::slice::from_ref(&sequences)).await;
        for count in [1, 7, 64] {
            let mut apart = Vec::new();
            for (index, &(total, _)) in sequences.iter().enumerate() {
                for first in (0..total).step_by(count) {
                    let end = total.min(first + count);
                    let mut parts = vec![(0, 0); sequences.len()];
                    parts[index] = (end, end - first);
                    apart.push(parts);
                }
            }
            let name = format!("attention, window {window:?}, {count} rows at a time");
            report.add(&name, equal(&steps(&apart).await, &together));
        }
    }
}

type Outcome = Result<Vec<f32>, ComputeError>;

fn join(a: Outcome, b: Outcome) -> Outcome {
    let mut a = a?;
    a.append(&mut b?);
    Ok(a)
}

fn equal(found: &Outcome, wanted: &Outcome) -> Result<(), String> {
    match (found, wanted) {
        (Ok(found), Ok(wanted)) => compare(found, wanted, 0.0),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}
