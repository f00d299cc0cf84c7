//! The tag behind an image: a keyed hash by which a server knows the images that it has given out.

use std::fmt;

/// Bytes of a tag.
pub(super) const TAG_LEN: usize = blake3::OUT_LEN;
/// First bytes of the trailer, so that a tag is not mistaken for garbage behind an image.
const MAGIC: [u8; 8] = *b"RPRSTAG\n";
/// What the key is for, as BLAKE3 wants to know it.
const CONTEXT: &str = "reprise 2026-11-29 slot image tag";
/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = MAGIC.len() + TAG_LEN;

/// The tag of a trailer; `None` if it is none.
pub(super) fn tag_of(trailer: &[u8]) -> Option<[u8; TAG_LEN]> {
    trailer.strip_prefix(&MAGIC)?.try_into().ok()
}

/// Makes and verifies tags.
#[derive(Clone)]
pub struct StateKey([u8; 32]);

/// Too few bytes for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key needs at least {} bytes, not {}", StateKey::MIN_LEN, .0)]
pub struct ShortKey(pub usize);

impl StateKey {
    /// Fewest bytes that a key is made of.
    pub const MIN_LEN: usize = 16;

    /// A key from secret bytes of any length; they should hold 128 bits that nobody can guess.
    ///
    /// # Errors
    /// [`ShortKey`] for fewer than [`StateKey::MIN_LEN`] bytes.
    pub fn derive(secret: &[u8]) -> Result<Self, ShortKey> {
        if secret.len() < Self::MIN_LEN {
            return Err(ShortKey(secret.len()));
        }
        Ok(Self(blake3::derive_key(CONTEXT, secret)))
    }

    /// The trailer of an image that consists of these parts.
    pub(super) fn trailer<'a>(&self, image: impl IntoIterator<Item = &'a [u8]>) -> [u8; TRAILER_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in image {
            hasher.update(part);
        }
        let tag = hasher.update(&MAGIC).finalize();
        let mut trailer = [0; TRAILER_LEN];
        trailer[..MAGIC.len()].copy_from_slice(&MAGIC);
        trailer[MAGIC.len()..].copy_from_slice(tag.as_bytes());
        trailer
    }

    /// Whether a tag is that of the bytes in front of it. Takes the same time for every wrong tag.
    pub(super) fn verifies(&self, covered: &[u8], tag: [u8; TAG_LEN]) -> bool {
        blake3::keyed_hash(&self.0, covered) == blake3::Hash::from_bytes(tag)
    }
}

/// Without the key.
impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey")
    }
}
