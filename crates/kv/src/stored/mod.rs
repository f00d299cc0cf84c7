//! Blocks that outlive the process: what names one, its bytes, and which of many make way. Pure; the host moves the bytes.
//!
//! Only full blocks are stored. A [`BlockKey`] names a block by everything its KV depends on: the model, the layout, the
//! tenant, and every token up to the block's last. It only finds a block: [`decode`] compares the tokens themselves.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header   magic [8] | version u32 | depth u32 | payload length u64 | key [32] | parent's key [32] | tokens u32
//!          token ids u32 * tokens
//!          XXH3-64 of the payload, seeded with the key's first 8 bytes
//!          XXH3-64 of everything above
//! payload  the block's KV as in a slot image (`crate::image`)
//! ```
//!
//! The seed ties a payload to its key, so the payload of another block is found like a flipped bit.

mod codec;
mod error;
mod index;
mod key;

pub use codec::{Claim, StoredBlock, decode, encode};
pub use error::StoredError;
pub use index::BlockIndex;
pub use key::BlockKey;
