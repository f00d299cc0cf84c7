//! The name of a block: a hash over everything its KV depends on.

use std::fmt;

use blake3::Hasher;
use reprise_gguf::TokenId;

use crate::BLOCK_TOKENS;
use crate::image::Layout;

/// Keeps these hashes apart from all others, and formats apart from each other: builds that cannot read one another's
/// blocks may share a store.
const DOMAIN: &str = "reprise prompt cache, root of a chain of blocks, format 1";

/// BLAKE3 over a parent's key and a block's tokens; for the parent of first blocks, over what all blocks of one model
/// and tenant share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey([u8; 32]);

impl BlockKey {
    /// The parent of first blocks. `salt` keeps tenants apart: without it, the time to the first token tells one what
    /// another has asked. It may be empty.
    #[must_use]
    pub fn root(fingerprint: &[u8; 32], layout: &Layout, salt: &[u8]) -> Self {
        let Layout { layers, kv_heads, head_dim, head_dim_v, keys, values, block_tokens } = *layout;
        let mut hasher = Hasher::new_derive_key(DOMAIN);
        hasher.update(fingerprint);
        for number in [layers, kv_heads, head_dim, head_dim_v, keys as u32, values as u32, block_tokens] {
            hasher.update(&number.to_le_bytes());
        }
        // Last, as the only part without a fixed length.
        hasher.update(salt);
        Self(*hasher.finalize().as_bytes())
    }

    /// The key of the block of `tokens` that follows this one.
    #[must_use]
    pub fn child(&self, tokens: &[TokenId]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&self.0);
        for token in tokens {
            hasher.update(&token.0.to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The keys of all full blocks of `tokens`, from a [`BlockKey::root`] on.
    pub fn chain(self, tokens: &[TokenId]) -> impl Iterator<Item = Self> {
        tokens.chunks_exact(BLOCK_TOKENS as usize).scan(self, |parent, block| {
            *parent = parent.child(block);
            Some(*parent)
        })
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key that was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key as [`Display`](fmt::Display) writes it: 64 small hexadecimal digits; `None` for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return None;
        }
        Some(Self(blake3::Hash::from_hex(text).ok()?.into()))
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::image::KvType;

    fn tokens(ids: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
        ids.into_iter().map(TokenId).collect()
    }

    #[test]
    fn everything_that_kv_depends_on_is_in_the_root() {
        let plain = Layout::new(2, 3, 64, 64);
        let layouts = [
            plain,
            Layout { layers: 3, ..plain },
            Layout { kv_heads: 4, ..plain },
            Layout { head_dim: 128, ..plain },
            Layout { head_dim_v: 128, ..plain },
            Layout { keys: KvType::Q8_0, ..plain },
            Layout { values: KvType::Q8_0, ..plain },
            Layout { block_tokens: 64, ..plain },
        ];
        let mut roots: HashSet<BlockKey> =
            layouts.iter().map(|layout| BlockKey::root(&[7; 32], layout, b"")).collect();
        roots.insert(BlockKey::root(&[8; 32], &plain, b""));
        roots.insert(BlockKey::root(&[7; 32], &plain, b"tenant"));
        roots.insert(BlockKey::root(&[7; 32], &plain, &[0]));
        assert_eq!(roots.len(), layouts.len() + 3);
    }

    #[test]
    fn a_chain_has_the_full_blocks_and_each_key_depends_on_all_tokens_before() {
        let root = BlockKey::root(&[7; 32], &Layout::new(2, 3, 64, 64), b"");
        let plain = tokens(0..100);
        let keys: Vec<BlockKey> = root.chain(&plain).collect();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[0], root.child(&plain[..32]));
        assert_eq!(keys[1], keys[0].child(&plain[32..64]));
        assert_eq!(root.chain(&plain[..95]).collect::<Vec<_>>(), keys[..2]);
        assert_eq!(root.chain(&plain[..31]).count(), 0);
        for changed in 0..96 {
            let mut other = plain.clone();
            other[changed].0 += 1 << 31;
            for (block, (key, other)) in keys.iter().zip(root.chain(&other)).enumerate() {
                assert_eq!(*key == other, block < changed / 32, "token {changed}, block {block}");
            }
        }
    }

    #[test]
    fn the_names_of_keys_never_change() {
        // By them this build finds what the one before has stored.
        let root = BlockKey::root(&[7; 32], &Layout::new(2, 3, 64, 64), b"tenant");
        let name = "7cec1d52629ee4aa671dd0e3f859068a811b3925eb51dc6b7192b50614a49996";
        assert_eq!(root.child(&tokens(0..32)).to_string(), name);
    }

    #[test]
    fn text_and_back() {
        let key = BlockKey::from_bytes(std::array::from_fn(|index| index as u8 * 8));
        assert_eq!(BlockKey::from_hex(&key.to_string()), Some(key));
        assert_eq!(BlockKey::from_hex(&key.to_string().to_uppercase()), None);
        assert_eq!(BlockKey::from_hex(&key.to_string()[1..]), None);
        assert_eq!(BlockKey::from_hex(&format!("{key}0")), None);
        assert_eq!(BlockKey::from_hex("é"), None);
    }
}
