//! Refuses what cannot fit, with the numbers, before anything is loaded: an allocation that fails later ends the worker.

use reprise_model::MemoryNeed;

use crate::clock;
use crate::error::{Failure, Kind};

/// End of what 32-bit addresses reach, less a page: its length must be a `usize` too.
const ADDRESSABLE: u64 = (4 << 30) - PAGE;
const PAGE: u64 = 64 << 10;
/// Largest piece in which memory is asked for; one allocation stays below 2 GiB.
const PIECE: u64 = 256 << 20;

/// Whose memory holds a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    /// The module's own.
    Module,
    /// The GPU's. Nobody says how much there is: only what the machine as a whole has less than is known.
    Device,
}

impl Budget {
    /// Bytes that can still be had, `most` at most; `None` where nobody knows.
    pub(crate) fn available(self, most: Option<f64>) -> Option<u64> {
        let left = match self {
            Self::Module => Some(module_left()),
            Self::Device => clock::device_memory(),
        };
        let most = most.map(|most| most as u64);
        left.into_iter().chain(most).min()
    }

    /// Checks a model's need against the bytes that there are, and makes the browser give the module's.
    ///
    /// # Errors
    /// [`Kind::ModelTooLarge`] when the weights alone do not fit, [`Kind::ContextTooLarge`] when the slots' KV does not.
    pub(crate) fn check(self, need: &MemoryNeed, available: Option<u64>) -> Result<(), Failure> {
        if let Some(available) = available {
            compare(need, available)?;
        }
        if self == Self::Module { reserve(need) } else { Ok(()) }
    }
}

/// Bytes that the module's memory can still grow by.
pub(crate) fn module_left() -> u64 {
    let used = core::arch::wasm32::memory_size(0) as u64 * PAGE;
    ADDRESSABLE.saturating_sub(used)
}

fn compare(need: &MemoryNeed, available: u64) -> Result<(), Failure> {
    let model = need.weights.saturating_add(need.activations);
    if model > available {
        return Err(Failure::new(
            Kind::ModelTooLarge,
            format!(
                "the model is larger than the memory: it needs {} for its weights and {} to compute, but {} are \
                 available. Take a smaller model or quantisation",
                mib(need.weights),
                mib(need.activations),
                mib(available)
            ),
        ));
    }
    if need.total() > available {
        return Err(Failure::new(
            Kind::ContextTooLarge,
            format!(
                "the context is larger than the memory: the KV cache of the slots needs {}, but {} are left beside the \
                 model's {}. Take a smaller context or fewer slots",
                mib(need.kv),
                mib(available - model),
                mib(model)
            ),
        ));
    }
    Ok(())
}

/// Makes the browser give the memory now, when a refusal is still an error that can be told: what is freed again stays
/// with the module.
fn reserve(need: &MemoryNeed) -> Result<(), Failure> {
    let mut pieces = Vec::new();
    let mut left = need.total();
    while left > 0 {
        let size = left.min(PIECE);
        let mut piece: Vec<u8> = Vec::new();
        if piece.try_reserve_exact(size as usize).is_err() {
            return Err(Failure::new(
                Kind::ModelTooLarge,
                format!(
                    "the browser gives this page only {} of the {} that the model and its context need. Close other \
                     tabs, or take a smaller model or context",
                    mib(need.total() - left),
                    mib(need.total())
                ),
            ));
        }
        pieces.push(piece);
        left -= size;
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
