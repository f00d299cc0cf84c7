//! What happens to heads between the projections and attention: QK norm, rotation, the store into the KV memory.
//!
//! One kernel does any of it for up to three tensors: one workgroup for each head of each row.

use crate::buffer::{Buffer, Operand};
use crate::kernel::Access;
use crate::ops::norm::Vector;
use crate::ops::with_constants;
use crate::recorder::{Bind, Recorder};

/// Norm, rotation and store of `q`, `k` and `v`, each where it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    pub(crate) head_dim: u32,
    /// Changed in place.
    pub(crate) q: Option<Part>,
    /// Changed in place, or stored and left as it was.
    pub(crate) k: Option<Part>,
    /// Stored.
    pub(crate) v: Option<Operand>,
    pub(crate) rope: Option<RopeAt>,
    pub(crate) eps: f32,
    pub(crate) store: Option<Store>,
}

/// A tensor of heads, and the weight of its norm.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) x: Operand,
    pub(crate) norm: Option<Vector>,
}

/// The rotations of a step's rows, in its data: cosine and sine of each pair, `[rows, pairs, 2] f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RopeAt {
    pub(crate) data: u32,
    pub(crate) pairs: u32,
    pub(crate) adjacent: bool,
}

/// Where K and V go.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) layer: Buffer,
    pub(crate) row_words: u32,
    /// Where the rows' cells begin in the step's data: `block * BLOCK_TOKENS + offset`.
    pub(crate) cells: u32,
}

impl Heads {
    /// Nothing done yet to heads of `head_dim`.
    pub(crate) fn new(head_dim: usize, q: Option<Part>) -> Self {
        let head_dim = head_dim as u32;
        Self { head_dim, q, k: None, v: None, rope: None, eps: 0.0, store: None }
    }

    pub(crate) fn reads(&self, tensor: &Operand) -> bool {
        let parts = [&self.q, &self.k];
        let mut tensors = parts.iter().filter_map(|part| part.as_ref().map(|part| &part.x)).chain(&self.v);
        tensors.any(|x| x.is(tensor))
    }
}

/// Index in the kernel's `HAS` of what is there, as bits.
const Q: u32 = 1;
const K: u32 = 2;
const V: u32 = 4;

pub(crate) fn record(recorder: &mut Recorder, op: &Heads) {
    let bit = |there: bool, bit: u32| if there { bit } else { 0 };
    let (q_norm, k_norm) = (norm_of(&op.q), norm_of(&op.k));
    let has = bit(op.q.is_some(), Q) | bit(op.k.is_some(), K) | bit(op.v.is_some(), V);
    let norms = bit(q_norm.is_some(), Q) | bit(k_norm.is_some(), K);
    let variant = [op.head_dim, has, norms, u32::from(op.rope.is_some()), u32::from(op.store.is_some())];

    // Bindings follow each other without gaps, so that their numbers depend on the variant.
    let mut buffers = Vec::new();
    let mut declarations = String::new();
    let mut bind = |access: Access, name: &str, element: &str, bind: Bind| {
        buffers.push((access, bind));
        let mode = if access == Access::Read { "read" } else { "read_write" };
        let binding = buffers.len();
        declarations.push_str(&format!(
            "@group(0) @binding({binding}) var<storage, {mode}> {name}: array<{element}>;\n"
        ));
    };
    let stored = op.store.is_some();
    if let Some(q) = &op.q {
        bind(Access::Write, "q", "f32", Bind::Buffer(q.x.buffer.clone()));
    }
    if let Some(k) = &op.k {
        let access = if stored { Access::Read } else { Access::Write };
        bind(access, "k", "f32", Bind::Buffer(k.x.buffer.clone()));
    }
    if let Some(v) = &op.v {
        bind(Access::Read, "v", "f32", Bind::Buffer(v.buffer.clone()));
    }
    if let Some(norm) = q_norm {
        bind(Access::Read, "q_norm", "f32", Bind::Buffer(norm.buffer.clone()));
    }
    if let Some(norm) = k_norm {
        bind(Access::Read, "k_norm", "f32", Bind::Buffer(norm.buffer.clone()));
    }
    if let Some(store) = &op.store {
        bind(Access::Write, "cells", "u32", Bind::Buffer(store.layer.clone()));
    }
    if op.rope.is_some() || stored {
        bind(Access::Read, "step_data", "u32", Bind::StepData);
    }

    let heads = |x: Option<&Operand>| x.map_or(0, |x| x.width / op.head_dim);
    let (q, k) = (op.q.as_ref().map(|part| &part.x), op.k.as_ref().map(|part| &part.x));
    let counts = [heads(q), heads(k), heads(op.v.as_ref())];
    let rows = q.or(k).or(op.v.as_ref()).map_or(0, |x| x.rows);
    let rope = op.rope.unwrap_or(RopeAt { data: 0, pairs: 0, adjacent: false });
    let base = |norm: Option<&Vector>| norm.map_or(0, |norm| norm.base);
    recorder.dispatch(
        ("heads", &variant),
        || source(&variant, &declarations),
        &buffers,
        &[
            counts[0],
            counts[1],
            counts[2],
            rope.data,
            rope.pairs,
            u32::from(rope.adjacent),
            op.eps.to_bits(),
            base(q_norm),
            base(k_norm),
            op.store.as_ref().map_or(0, |store| store.cells),
            op.store.as_ref().map_or(0, |store| store.row_words),
        ],
        [counts.iter().sum(), rows, 1],
    );
}

fn norm_of(part: &Option<Part>) -> Option<&Vector> {
    part.as_ref().and_then(|part| part.norm.as_ref())
}

/// Lines of the template that begin with `//? condition` stay only where the variant has it.
fn source(&[head_dim, has, norms, rope, store]: &[u32; 5], declarations: &str) -> String {
    let holds = |condition: &str| match condition {
        "q" => has & Q != 0,
        "k" => has & K != 0,
        "v" => has & V != 0,
        "q_norm" => norms & Q != 0,
        "k_norm" => norms & K != 0,
        "rope" => rope != 0,
        "store" => store != 0,
        "k_in_place" => has & K != 0 && store == 0,
        _ => false,
    };
    let body: String = include_str!("heads.wgsl")
        .lines()
        .filter_map(|line| match line.trim_start().strip_prefix("/*?") {
            Some(rest) => rest.split_once("*/").filter(|(condition, _)| holds(condition.trim())).map(|x| x.1),
            None => Some(line),
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    with_constants(
        &[("HEAD_DIM", head_dim), ("NORMS", norms)],
        &[declarations, include_str!("half.wgsl"), &body],
    )
}
