//! The small values that cross the crate's border: blocks, slots, times, parts per million.

use std::fmt;

use bytemuck::TransparentWrapper;
use reprise_gguf::TokenId;

/// Tokens in one KV block. A block is the unit of allocation, of sharing and of the slot image.
pub const BLOCK_TOKENS: u32 = 32;

/// Blocks that `tokens` tokens occupy.
pub(crate) const fn blocks_for(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// Number of tokens as the `u32` that positions are counted in.
pub(crate) fn count(tokens: &[TokenId]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}

/// A physical block of KV memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, TransparentWrapper)]
#[repr(transparent)]
pub struct BlockId(u32);

impl BlockId {
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Place in the KV memory, below [`crate::Cache::capacity`].
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// A block table as the plain indices that a model takes, without a copy.
    #[must_use]
    pub fn indices(table: &[Self]) -> &[u32] {
        Self::peel_slice(table)
    }

    pub(crate) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// A slot. Ids wrap modulo the number of slots, as llama-server's do, so every id names a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose tokens they are: content is found by its own tenant only. Hosts that keep nobody apart have one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub u64);

/// A point of the host's clock, in milliseconds. Only differences and order matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// A fraction in parts per million: comparisons stay exact without floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ppm(pub u32);

impl Ppm {
    /// One whole.
    pub const ONE: Self = Self(1_000_000);

    /// `part / whole`, rounded down; zero for an empty whole.
    #[must_use]
    pub fn ratio(part: u32, whole: u32) -> Self {
        let ppm = u64::from(part) * u64::from(Self::ONE.0);
        Self(ppm.checked_div(u64::from(whole)).map_or(0, |ppm| u32::try_from(ppm).unwrap_or(u32::MAX)))
    }

    /// Whether `part / whole` is strictly above this fraction. Exact, by cross multiplication.
    #[must_use]
    pub fn is_below(self, part: u32, whole: u32) -> bool {
        u64::from(part) * u64::from(Self::ONE.0) > u64::from(self.0) * u64::from(whole)
    }
}

impl fmt::Display for Ppm {
    /// Two decimals, rounded: `0.83`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (u64::from(self.0) + 5_000) / 10_000;
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}
