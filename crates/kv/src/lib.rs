//! The logical KV cache: blocks, slots, prefix matching, placement, slot images. No tensors, no files, no clock.
//!
//! A [`Cache`] has slots, each a list of tokens over a table of physical blocks, and a RAM tier that keeps token lists
//! whose slot has gone on to something else. Token `i` of a slot always lies at position `i`, in cell `i % 32` of its
//! block `i / 32`. [`Cache::plan`] decides where a prompt runs and changes nothing, [`Cache::apply`] carries it out.
//! Whenever cells have to be copied or rotated for a change, it returns the [`Work`] for the model.
//!
//! Slot choice, reuse counts and context shift are llama-server's, token for token. It differs on purpose where
//! llama-server recomputes what is still held, so that a request never reuses less than there:
//!
//! - The RAM tier is asked for every completion, also for one pinned to an empty slot, with similarity turned off, or on
//!   a slot that already holds a shorter part of the prompt. The entry with the most to reuse wins, if it has more than
//!   the slot.
//! - Loading an entry shares its blocks and leaves it where it is. The slot's own content is saved first.
//! - A slot purged from a full unified pool, or taken for a copy of another (`n_cmpl`), goes to the RAM tier. An idle
//!   slot is emptied after publishing only if the tier has taken it in.
//! - Cells shared between slots count once against a unified pool.
//! - A restored slot counts as just used, and a restore that fails leaves the slot as it was.

pub mod image;
pub mod stored;

mod cache;
mod check;
mod config;
mod error;
mod idle;
mod ids;
mod limit;
mod placement;
mod plan;
mod pool;
mod prefix;
mod ram;
mod relocate;
mod restore;
mod shift;
mod slot;
mod slots;
mod work;

pub use cache::Cache;
pub use config::CacheConfig;
pub use error::{PoolFull, RestoreError, Stale};
pub use ids::{BLOCK_TOKENS, BlockId, Millis, Ppm, SlotId};
pub use placement::{Applied, ChunkMove, EntryId, Eviction, Owner, Placement, Prompt, Reason, Source};
pub use restore::Staged;
pub use shift::ContextShift;
pub use slot::SlotView;
pub use work::{Cell, CellCopy, Rotation, Work};
