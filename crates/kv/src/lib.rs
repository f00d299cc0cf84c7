//! The logical KV cache: blocks, slots, prefix matching, placement, slot images. No tensors, no files, no clock.
//!
//! A [`Cache`] has slots, each a list of tokens over a table of physical blocks, and a prefix tree of all blocks that were
//! evaluated and still lie in memory, whether a slot shows them or not. Token `i` of a slot always lies at position `i`, in cell `i % 32` of its
//! block `i / 32`. [`Cache::plan`] decides where a prompt runs and changes nothing, [`Cache::apply`] carries it out.
//! Whenever cells have to be copied or rotated for a change, it returns the [`Work`] for the model.
//!
//! Slot choice, reuse counts and context shift are llama-server's, token for token. It differs on purpose where
//! llama-server recomputes what is still held, so that a request never reuses less than there:
//!
//! - Everything held is looked through for every prompt, also for one pinned to an empty slot, with similarity turned off, or on
//!   a slot that already shows a shorter part of the prompt: also what other slots show, and what running requests have evaluated.
//! - Taking something over shares its blocks and leaves it where it is. A slot that goes on to another prompt loses nothing until
//!   the memory is needed, and then the policy says what goes, block by block from the end (see `policy`).
//! - Memory that slots do not use is used for what is held, also without `--cache-ram`.
//! - An idle slot is emptied after publishing only if all of it is held.
//! - Cells shared between slots count once against a unified pool.
//! - A restored slot counts as just used, and a restore that fails leaves the slot as it was.

pub mod image;
pub mod stored;

mod adopt;
mod cache;
mod check;
mod config;
mod error;
mod evict;
mod idle;
mod ids;
mod limit;
mod placement;
mod plan;
mod policy;
mod pool;
mod prefix;
mod relocate;
mod restore;
mod shift;
mod slot;
mod slots;
mod tree;
mod work;

pub use adopt::Fetched;
pub use cache::Cache;
pub use config::CacheConfig;
pub use error::{PoolFull, RestoreError, Stale};
pub use ids::{BLOCK_TOKENS, BlockId, Millis, Ppm, SlotId, Tenant};
pub use placement::{Applied, ChunkMove, Eviction, Owner, Placement, Prompt, Reason, Source};
pub use restore::Staged;
pub use shift::ContextShift;
pub use slot::SlotView;
pub use work::{Cell, CellCopy, Rotation, Work};
