//! Attention of one query row over one block of keys and values, with a running softmax.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::math::{exp, larger, sum8, tanh, tree8};
#[cfg(target_arch = "x86_64")]
use super::x86::attention::{self, Head};
use super::{Isa, cells};
use crate::{BLOCK_TOKENS, KvType};

/// Elements of a padded head are a multiple of this.
pub(crate) const LANES: usize = 8;
/// Queries up to which widening a block in registers, each time anew, costs less than a copy.
#[cfg(target_arch = "x86_64")]
const STORED_QUERIES: usize = 6;

/// Softmax over the keys seen so far: `out = sum of e^(score - max) * value`, `sum` the same without the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Running {
    /// Largest score.
    pub(crate) max: f32,
    /// Sum of the exponentials.
    pub(crate) sum: f32,
}

impl Running {
    /// No key seen.
    pub(crate) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };
}

/// One block of keys and values of a KV head.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BlockView<'a> {
    /// Widened beforehand.
    Widened(Widened<'a>),
    /// As they are stored; only where [`reads_stored`] says so.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "elsewhere no kernel reads them so"))]
    Stored(Stored<'a>),
}

/// A block widened for as many queries as there may be, `[BLOCK_TOKENS][padded head] f32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widened<'a> {
    /// Keys.
    pub(crate) keys: &'a [f32],
    /// Values.
    pub(crate) values: &'a [f32],
}

/// A block in KV memory, from the head's first element on, `row` elements from token to token.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "elsewhere no kernel reads them so"))]
pub(crate) struct Stored<'a> {
    /// Keys.
    pub(crate) keys: &'a [f16],
    /// Values.
    pub(crate) values: &'a [f16],
    /// Elements from a token to the next.
    pub(crate) row: usize,
    /// Keys and values of the same head in the block that will be read after this one.
    pub(crate) next: Option<[&'a [f16]; 2]>,
}

/// Whether the kernel multiplies `queries` queries of `head_dim` elements faster with what is stored than with a widened copy.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(unused_variables, reason = "elsewhere no kernel reads them so")
)]
pub(crate) fn reads_stored(isa: Isa, queries: usize, head_dim: usize) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => queries <= STORED_QUERIES && head_dim.is_multiple_of(LANES),
        _ => false,
    }
}

/// One head of a block's keys, or values, in KV memory: the bytes from the head's first on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredHead<'a> {
    /// What elements are stored as.
    pub(crate) kv_type: KvType,
    /// The block from the head's first token on.
    pub(crate) bytes: &'a [u8],
    /// Bytes from a token to the next.
    pub(crate) row: usize,
    /// Elements of the head.
    pub(crate) head_dim: usize,
}

impl StoredHead<'_> {
    /// The head of each token.
    fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.kv_type.bytes(self.head_dim);
        self.bytes.chunks(self.row).map(move |token| &token[..bytes])
    }
}

/// Widens one head of the first `tokens` tokens to rows of `padded` floats. The padding is not written.
pub(crate) fn widen_head(isa: Isa, head: StoredHead<'_>, tokens: usize, padded: usize, to: &mut [f32]) {
    for (from, to) in head.tokens().zip(to.chunks_exact_mut(padded)).take(tokens) {
        let to = &mut to[..head.head_dim];
        match head.kv_type {
            KvType::F16 => widen_halves(isa, bytemuck::cast_slice(from), to),
            kv_type => cells::load(isa, kv_type, from, to),
        }
    }
}

fn widen_halves(isa: Isa, from: &[f16], to: &mut [f32]) {
    match isa {
        Isa::Portable => from.convert_to_f32_slice(to),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => super::x86::attention::widen(from, to),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => super::arm::attention::widen(from, to),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::attention::widen(from, to),
    }
}

/// Asks for the memory that [`widen_head`] will read of a block.
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64")),
    allow(unused_variables, reason = "elsewhere there is no instruction for it")
)]
pub(crate) fn prefetch_head(isa: Isa, head: StoredHead<'_>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => head.tokens().for_each(super::x86::attention::prefetch),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => head.tokens().for_each(super::arm::attention::prefetch),
        _ => {}
    }
}

/// Adds the `visible` tokens of a block to the softmax of every query row, of which there are as many as `running`. `queries` are
/// scaled already.
///
/// # Panics
/// If the lengths do not fit together or `visible` leaves the block.
pub(crate) fn attend(
    isa: Isa,
    queries: &[f32],
    block: BlockView<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut [Running],
    out: &mut [f32],
) {
    let width = queries.len() / running.len().max(1);
    assert!(width.is_multiple_of(LANES) && queries.len() == width * running.len(), "padded heads");
    assert!(out.len() == queries.len() && visible.end <= BLOCK_TOKENS, "tokens of the block");
    let block = match block {
        BlockView::Widened(block) => block,
        BlockView::Stored(block) => {
            return attend_stored(isa, queries, block, visible, softcap, running, out);
        }
    };
    let elements = BLOCK_TOKENS * width;
    assert!(block.keys.len() == elements && block.values.len() == elements, "a block");
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Portable {
        let head = Head { keys: block.keys, values: block.values, row: width, next: None };
        return attention::attend(isa, queries, head, visible, softcap, running, out);
    }
    let rows = queries.chunks_exact(width).zip(out.chunks_exact_mut(width));
    for ((query, out), running) in rows.zip(running) {
        match isa {
            Isa::Portable => portable(query, block, visible, softcap, running, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => unreachable!("these take all queries at once, above"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => {
                super::arm::attention::attend(query, block, visible, softcap, running, out);
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            _ => super::wasm::attention::attend(query, block, visible, softcap, running, out),
        }
    }
}

#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no kernel reads them so"))]
fn attend_stored(
    isa: Isa,
    queries: &[f32],
    block: Stored<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut [Running],
    out: &mut [f32],
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => {
            let Stored { keys, values, row, next } = block;
            attention::attend(isa, queries, Head { keys, values, row, next }, visible, softcap, running, out);
        }
        _ => unreachable!("`reads_stored` is false for {}", isa.name()),
    }
}

fn portable(
    query: &[f32],
    block: Widened<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
    out: &mut [f32],
) {
    let width = query.len();
    let scores = portable_scores(query, block.keys);
    let (weights, correction) = softmax(scores, visible, softcap, running);
    for (out, at) in out.chunks_exact_mut(LANES).zip((0..).step_by(LANES)) {
        for out in &mut *out {
            *out *= correction;
        }
        for token in visible.clone() {
            let values = &block.values[token * width + at..][..LANES];
            for (out, value) in out.iter_mut().zip(values) {
                *out += weights[token] * value;
            }
        }
    }
}

/// Adds softmax `b` to softmax `a`; the order of the two matters to the last bit.
pub(crate) fn merge(isa: Isa, a: &mut Running, a_out: &mut [f32], b: Running, b_out: &[f32]) {
    if b.sum == 0.0 {
        return;
    }
    isa.run(
        #[inline(always)]
        || {
            let max = a.max.max(b.max);
            let (keep, add) = (exp(a.max - max), exp(b.max - max));
            for (a, b) in a_out.iter_mut().zip(b_out) {
                *a = *a * keep + b * add;
            }
            *a = Running { max, sum: a.sum * keep + b.sum * add };
        },
    );
}

fn portable_scores(query: &[f32], keys: &[f32]) -> [f32; BLOCK_TOKENS] {
    let mut scores = [0f32; BLOCK_TOKENS];
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len())) {
        let mut lanes = [0f32; LANES];
        for (query, key) in query.as_chunks::<LANES>().0.iter().zip(key.as_chunks::<LANES>().0) {
            for ((lane, query), key) in lanes.iter_mut().zip(query).zip(key) {
                *lane += query * key;
            }
        }
        *score = sum8(lanes);
    }
    scores
}

/// Weights of the block's tokens, 0 where not visible, and the factor that earlier sums are multiplied by.
#[inline(always)]
pub(super) fn softmax(
    mut scores: [f32; BLOCK_TOKENS],
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
) -> ([f32; BLOCK_TOKENS], f32) {
    if let Some(cap) = softcap {
        for score in &mut scores {
            *score = tanh(*score / cap) * cap;
        }
    }
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let mut lanes = [running.max; LANES];
    for group in scores.as_chunks::<LANES>().0 {
        for (lane, score) in lanes.iter_mut().zip(group) {
            *lane = larger(*lane, *score);
        }
    }
    let max = tree8(lanes, larger);
    // Most blocks do not hold the largest score so far; `exp(0)` is 1 to the bit.
    let correction = if max == running.max { 1.0 } else { exp(running.max - max) };
    for score in &mut scores {
        *score = exp(*score - max);
    }
    let mut sums = [0f32; LANES];
    for group in scores.as_chunks::<LANES>().0 {
        for (sum, score) in sums.iter_mut().zip(group) {
            *sum += score;
        }
    }
    *running = Running { max, sum: running.sum * correction + sum8(sums) };
    (scores, correction)
}
