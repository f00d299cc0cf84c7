//! What the cache can refuse.

use crate::SlotId;

/// Tokens that do not fit into the slots' cells. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolFull {
    /// The slot's own context is full: shift or stop.
    #[error("slot {slot} has room for {room} of {wanted} tokens")]
    Slot {
        /// The slot.
        slot: SlotId,
        /// Tokens to add.
        wanted: u32,
        /// Tokens that would fit.
        room: u32,
    },
    /// The pool that all slots share is full: purge an idle slot or use a smaller batch.
    #[error("the KV pool has room for {room} of {wanted} tokens; raise the context size or use fewer slots")]
    Pool {
        /// Tokens to add.
        wanted: u32,
        /// Tokens that would fit.
        room: u32,
    },
}

/// A restore that cannot be staged. The slot is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A request runs on the slot.
    #[error("slot {0} is busy; restore it when its request has ended")]
    Busy(SlotId),
    /// More tokens than the slot's context.
    #[error(
        "the slot image holds {tokens} tokens, the slot only {context}; start the server with a larger context"
    )]
    Context {
        /// Tokens of the image.
        tokens: u32,
        /// Most tokens of the slot.
        context: u32,
    },
    /// No room in the pool of all slots, or none for a second staged restore.
    #[error(
        "no room in the KV pool for {tokens} tokens; erase a slot, or wait until running requests have ended"
    )]
    Pool {
        /// Tokens of the image.
        tokens: u32,
    },
}

/// The cache has changed since the placement was planned. Plan again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the placement is out of date: the cache has changed since it was planned")]
pub struct Stale;
