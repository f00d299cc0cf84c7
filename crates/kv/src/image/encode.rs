//! Image to bytes: the header and small frame headers, to be written in front of payloads that stay where they are.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::image::tag::TRAILER_LEN;
use crate::image::{ImageError, ImageHeader, Layout, StateKey, pack};

/// First bytes of an image. The line ends make a file that went through a text conversion recognisably broken.
pub(super) const MAGIC: [u8; 8] = *b"RPRSKV\r\n";
/// Version of the format.
pub(super) const VERSION: u32 = 2;
/// Bytes in front of the token ids.
pub(super) const FIXED_LEN: usize = 8 + 4 + 4 + 32 + 7 * 4;
const CHECKSUM_LEN: usize = 8;

/// Bytes in front of every payload: length and checksum.
pub const FRAME_HEADER_LEN: usize = 16;

/// Bytes of a header with so many tokens.
pub(super) fn header_len(tokens: u64) -> u64 {
    (FIXED_LEN + CHECKSUM_LEN) as u64 + tokens * 4
}

/// Seed of a frame's checksum.
pub(super) fn frame_seed(header_checksum: u64, index: usize) -> u64 {
    header_checksum.wrapping_add(index as u64)
}

/// Writes an image piece by piece: [`Encoder::header`], then for each block its [`Encoder::frame`] and the payload
/// itself. Payloads are read once for their checksum and never copied, so a host can write them vectored.
#[derive(Debug)]
pub struct Encoder {
    image: ImageHeader,
    bytes: Vec<u8>,
    checksum: u64,
    next: usize,
    digest: blake3::Hasher,
}

impl Encoder {
    /// Starts an image.
    #[must_use]
    pub fn new(image: ImageHeader) -> Self {
        let mut bytes = Vec::with_capacity(FIXED_LEN + image.tokens.len() * 4 + CHECKSUM_LEN);
        let Layout { layers, kv_heads, head_dim, head_dim_v, keys, values, block_tokens } = image.layout;
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(image.tokens.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&image.fingerprint);
        for number in [layers, kv_heads, head_dim, head_dim_v, pack(keys, values), block_tokens, image.exact]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for token in &image.tokens {
            bytes.extend_from_slice(&token.0.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let mut digest = blake3::Hasher::new();
        digest.update(&bytes);
        Self { image, bytes, checksum, next: 0, digest }
    }

    /// The first bytes of the image.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the finished image, without a trailer.
    #[must_use]
    pub fn image_len(&self) -> u64 {
        self.image.image_len()
    }

    /// The bytes that go in front of the next block's payload.
    ///
    /// # Errors
    /// [`ImageError::Payload`] when the payload has not the length that the header implies, or after the last block.
    pub fn frame(&mut self, payload: &[u8]) -> Result<[u8; FRAME_HEADER_LEN], ImageError> {
        let (block, found) = (self.next, payload.len() as u64);
        let expected = self.image.payload_len(block);
        if block >= self.image.blocks() || found != expected {
            return Err(ImageError::Payload { block, found, expected });
        }
        self.next += 1;
        let checksum = xxh3_64_with_seed(payload, frame_seed(self.checksum, block));
        let mut frame = [0; FRAME_HEADER_LEN];
        frame[..8].copy_from_slice(&found.to_le_bytes());
        frame[8..].copy_from_slice(&checksum.to_le_bytes());
        self.digest.update(&frame);
        Ok(frame)
    }

    /// The tag's bytes behind the last block; `image` is everything before them.
    pub fn trailer<'a>(
        &mut self,
        key: &StateKey,
        image: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; TRAILER_LEN] {
        let trailer = key.trailer(image);
        self.digest.update(&trailer);
        trailer
    }

    /// What identifies the finished image: BLAKE3 over its header, its frames' headers and its trailer.
    ///
    /// That it leaves out the payloads saves a second pass over them and loses nothing that matters: the header fixes
    /// tokens, layout and model, and with them the length of everything that follows; a frame's header holds the checksum
    /// of its payload. Two images that differ have the same digest only if 64 bits of XXH3 are the same for each block
    /// that differs. By chance that does not happen; somebody who may put a state can make it happen, and fools only
    /// those who ask for the state of the slot that he has put.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *self.digest.finalize().as_bytes()
    }
}
