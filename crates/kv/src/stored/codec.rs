//! Block to bytes and back. The bytes are hostile: every length is held against those that remain before it is used.

use reprise_gguf::TokenId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::stored::{BlockKey, StoredError};

/// First bytes of a stored block. The line ends make a file that went through a text conversion recognisably broken.
const MAGIC: [u8; 8] = *b"RPRSBK\r\n";
/// Version of the format; another one needs another domain of keys, too.
const VERSION: u32 = 1;
/// Bytes of a claim, which are those in front of the number of tokens.
const CLAIM_LEN: usize = 8 + 4 + 4 + 8 + 32 + 32;
/// Bytes in front of the token ids.
const FIXED_LEN: usize = CLAIM_LEN + 4;
const CHECKSUM_LEN: usize = 8;

/// A block's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlock<'a> {
    /// `parent`'s child by `tokens`.
    pub key: BlockKey,
    /// Key of the block before, or of the root.
    pub parent: BlockKey,
    /// Blocks before it in its chain.
    pub depth: u32,
    /// The block's tokens.
    pub tokens: &'a [TokenId],
}

impl<'a> StoredBlock<'a> {
    /// The block of `tokens` behind `parent`, which is the key of block `depth - 1` or the root.
    #[must_use]
    pub fn new(parent: BlockKey, depth: u32, tokens: &'a [TokenId]) -> Self {
        Self { key: parent.child(tokens), parent, depth, tokens }
    }
}

/// The bytes that go in front of the payload, which is read once for its checksum and stays where it is.
#[must_use]
pub fn encode(block: &StoredBlock<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED_LEN + block.tokens.len() * 4 + 2 * CHECKSUM_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&block.depth.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(block.key.as_bytes());
    bytes.extend_from_slice(block.parent.as_bytes());
    bytes.extend_from_slice(&(block.tokens.len() as u32).to_le_bytes());
    for token in block.tokens {
        bytes.extend_from_slice(&token.0.to_le_bytes());
    }
    bytes.extend_from_slice(&xxh3_64_with_seed(payload, seed(&block.key)).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// The payload of exactly this block, `payload_len` bytes long.
///
/// # Errors
/// [`StoredError`] for anything else; damage is reported before misfit.
pub fn decode<'a>(
    bytes: &'a [u8],
    expected: &StoredBlock<'_>,
    payload_len: u64,
) -> Result<&'a [u8], StoredError> {
    let found = bytes.len() as u64;
    if !bytes.starts_with(&MAGIC) {
        return Err(StoredError::NotABlock);
    }
    let short = StoredError::Length { wanted: FIXED_LEN as u64, found };
    let version = u32_at(bytes, 8).ok_or(short)?;
    if version != VERSION {
        return Err(StoredError::Version { found: version, expected: VERSION });
    }
    let tokens = u32_at(bytes, CLAIM_LEN).ok_or(short)?;
    let header_len = FIXED_LEN as u64 + u64::from(tokens) * 4 + 2 * CHECKSUM_LEN as u64;
    if header_len > found {
        return Err(StoredError::Length { wanted: header_len, found });
    }
    let (header, payload) = bytes.split_at(header_len as usize);
    let (covered, checksum) = header.split_at(header.len() - CHECKSUM_LEN);
    if checksum != xxh3_64(covered).to_le_bytes() {
        return Err(StoredError::HeaderChecksum);
    }
    let claim = Claim::of(bytes).ok_or(short)?;
    let wanted = header_len.saturating_add(claim.payload_len);
    if wanted != found {
        return Err(StoredError::Length { wanted, found });
    }
    if (claim.key, claim.parent, claim.depth) != (expected.key, expected.parent, expected.depth) {
        return Err(StoredError::OtherBlock);
    }
    let (ids, checksum) = covered[FIXED_LEN..].split_at(tokens as usize * 4);
    let ids = ids.as_chunks().0.iter().map(|id| TokenId(u32::from_le_bytes(*id)));
    if !ids.eq(expected.tokens.iter().copied()) {
        return Err(StoredError::OtherTokens);
    }
    if claim.payload_len != payload_len {
        return Err(StoredError::PayloadLength { found: claim.payload_len, expected: payload_len });
    }
    if checksum != xxh3_64_with_seed(payload, seed(&claim.key)).to_le_bytes() {
        return Err(StoredError::PayloadChecksum);
    }
    Ok(payload)
}

/// What the first bytes of a stored block say, unverified: for a store that keeps account of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The block's key.
    pub key: BlockKey,
    /// Key of the block before.
    pub parent: BlockKey,
    /// Blocks before it.
    pub depth: u32,
    /// Bytes of KV.
    pub payload_len: u64,
}

impl Claim {
    /// Bytes that it takes to read a claim.
    pub const LEN: usize = CLAIM_LEN;

    /// Reads the claim; `None` if the bytes are not those of a block that this build reads.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if !bytes.starts_with(&MAGIC) || u32_at(bytes, 8)? != VERSION {
            return None;
        }
        let key = |at: usize| Some(BlockKey::from_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            depth: u32_at(bytes, 12)?,
            payload_len: u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?),
            key: key(24)?,
            parent: key(56)?,
        })
    }
}

fn seed(key: &BlockKey) -> u64 {
    key.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layout;

    fn root() -> BlockKey {
        BlockKey::root(&[7; 32], &Layout::new(2, 3, 64, 64), b"")
    }

    fn tokens(first: u32) -> Vec<TokenId> {
        (first..first + 32).map(TokenId).collect()
    }

    fn stored(block: &StoredBlock<'_>, payload: &[u8]) -> Vec<u8> {
        [encode(block, payload), payload.to_vec()].concat()
    }

    #[test]
    fn a_block_comes_back() {
        let tokens = tokens(0);
        for payload in [&b"payload of the block"[..], b""] {
            let block = StoredBlock::new(root(), 0, &tokens);
            let bytes = stored(&block, payload);
            assert_eq!(decode(&bytes, &block, payload.len() as u64), Ok(payload));
            let claim = Claim { key: block.key, parent: root(), depth: 0, payload_len: payload.len() as u64 };
            assert_eq!(Claim::of(&bytes[..Claim::LEN]), Some(claim));
            assert_eq!(Claim::of(&bytes[..Claim::LEN - 1]), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let tokens = tokens(0);
        let block = StoredBlock::new(root(), 3, &tokens);
        let mut bytes = stored(&block, b"payload of the block");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, &block, 20).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(decode(&bytes, &block, 20).is_ok());
    }

    #[test]
    fn every_cut_and_every_addition_is_found() {
        let tokens = tokens(0);
        let block = StoredBlock::new(root(), 3, &tokens);
        let mut bytes = stored(&block, b"payload of the block");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &block, 20).is_err(), "{length} bytes");
        }
        let wanted = bytes.len() as u64;
        bytes.push(0);
        assert_eq!(decode(&bytes, &block, 20), Err(StoredError::Length { wanted, found: wanted + 1 }));
    }

    #[test]
    fn another_block_is_refused_whatever_its_checksums_say() {
        let (here, there) = (tokens(0), tokens(1));
        let block = StoredBlock::new(root(), 0, &here);
        let payload = b"payload of the block";
        let is = |other: &StoredBlock<'_>| decode(&stored(other, payload), &block, 20).map(<[u8]>::len);
        assert_eq!(is(&StoredBlock::new(root(), 0, &there)), Err(StoredError::OtherBlock));
        assert_eq!(is(&StoredBlock { parent: block.key, ..block }), Err(StoredError::OtherBlock));
        assert_eq!(is(&StoredBlock { depth: 1, ..block }), Err(StoredError::OtherBlock));
        // What a collision would look like.
        assert_eq!(is(&StoredBlock { tokens: &there, ..block }), Err(StoredError::OtherTokens));
        assert_eq!(is(&StoredBlock { tokens: &here[..31], ..block }), Err(StoredError::OtherTokens));
        let shorter = StoredError::PayloadLength { found: 20, expected: 24 };
        assert_eq!(decode(&stored(&block, payload), &block, 24), Err(shorter));
    }

    #[test]
    fn a_payload_of_another_block_is_found() {
        let (here, there) = (tokens(0), tokens(1));
        let [block, other] = [&here, &there].map(|tokens| StoredBlock::new(root(), 0, tokens));
        let payload = b"payload of the block";
        // The other's payload checksum in a header that is whole.
        let mut header = encode(&block, payload);
        let at = header.len() - 2 * CHECKSUM_LEN;
        let foreign = encode(&other, payload);
        header[at..at + 8].copy_from_slice(&foreign[at..at + 8]);
        let checksum = xxh3_64(&header[..at + 8]).to_le_bytes();
        header[at + 8..].copy_from_slice(&checksum);
        let bytes = [&header[..], payload].concat();
        assert_eq!(decode(&bytes, &block, 20), Err(StoredError::PayloadChecksum));
    }

    #[test]
    fn another_version_and_absurd_lengths_are_refused() {
        let tokens = tokens(0);
        let block = StoredBlock::new(root(), 0, &tokens);
        let bytes = stored(&block, b"payload of the block");
        let mut other = bytes.clone();
        other[8] = 2;
        assert_eq!(decode(&other, &block, 20), Err(StoredError::Version { found: 2, expected: 1 }));
        assert_eq!(Claim::of(&other), None);
        // The number of tokens, then the payload's length under a checksum that matches.
        let mut other = bytes.clone();
        other[CLAIM_LEN..FIXED_LEN].fill(0xff);
        assert!(matches!(decode(&other, &block, 20), Err(StoredError::Length { .. })));
        let mut other = bytes;
        other[16..24].fill(0xff);
        let end = FIXED_LEN + 32 * 4 + 8;
        let checksum = xxh3_64(&other[..end]).to_le_bytes();
        other[end..end + 8].copy_from_slice(&checksum);
        assert!(matches!(decode(&other, &block, 20), Err(StoredError::Length { wanted: u64::MAX, .. })));
    }
}
