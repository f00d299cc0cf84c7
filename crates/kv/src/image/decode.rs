//! Bytes to image. The bytes are hostile: every length is held against those that remain before it is used.

use reprise_gguf::TokenId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::image::encode::{FIXED_LEN, MAGIC, VERSION, frame_seed, header_len};
use crate::image::reader::Reader;
use crate::image::tag::{TAG_LEN, tag_of};
use crate::image::{FRAME_HEADER_LEN, ImageError, ImageHeader, Layout, StateKey, unpack};

/// The number of tokens that the first bytes of an image speak of, unverified: for lists of images.
#[must_use]
pub fn claimed_tokens(bytes: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(bytes.strip_prefix(&MAGIC)?);
    let _version = reader.u32()?;
    reader.u32()
}

/// What the restoring host can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Fingerprint of the loaded model.
    pub fingerprint: [u8; 32],
    /// KV layout of the loaded model.
    pub layout: Layout,
    /// Tokens in the vocabulary: ids must be below.
    pub vocab: u32,
    /// Most tokens of the slot.
    pub max_tokens: u32,
}

/// An image whose header has been verified. Payloads are views of the bytes, verified by [`Image::frames`].
#[derive(Debug)]
pub struct Image<'a> {
    header: ImageHeader,
    checksum: u64,
    frames: &'a [u8],
    /// What the tag covers, and the tag.
    tag: Option<(&'a [u8], [u8; TAG_LEN])>,
}

impl<'a> Image<'a> {
    /// Reads and verifies an image's header and the image's length.
    ///
    /// # Errors
    /// [`ImageError`]; damage is reported before misfit, so a flipped bit is never taken for another model.
    pub fn decode(bytes: &'a [u8], expected: &Expected) -> Result<Self, ImageError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(ImageError::NotAnImage);
        }
        let found = bytes.len() as u64;
        let truncated = |wanted: u64| ImageError::Truncated { wanted, found };
        let mut reader = Reader::new(&bytes[MAGIC.len()..]);
        let version = reader.u32().ok_or(truncated(FIXED_LEN as u64))?;
        if version != VERSION {
            return Err(ImageError::Version { found: version, expected: VERSION });
        }
        let tokens = reader.u32().ok_or(truncated(FIXED_LEN as u64))?;
        let header_len = header_len(u64::from(tokens));
        if header_len > found {
            return Err(truncated(header_len));
        }
        let (header, frames) = bytes.split_at(header_len as usize);
        let (covered, checksum) = header.split_at(header.len() - 8);
        let checksum = u64::from_le_bytes(checksum.try_into().map_err(|_| truncated(header_len))?);
        if xxh3_64(covered) != checksum {
            return Err(ImageError::HeaderChecksum);
        }
        let header = read_header(&mut reader, tokens).ok_or(truncated(header_len))??;
        fits(&header, expected)?;
        let wanted = header.image_len();
        if found < wanted {
            return Err(truncated(wanted));
        }
        // The image is at most `found` bytes long.
        let (frames, trailer) = frames.split_at((wanted - header_len) as usize);
        let tag = match (trailer, tag_of(trailer)) {
            ([], _) => None,
            (_, Some(tag)) => Some((&bytes[..bytes.len() - TAG_LEN], tag)),
            (_, None) => return Err(ImageError::Trailing { extra: found - wanted }),
        };
        Ok(Self { header, checksum, frames, tag })
    }

    /// Whether somebody who has the key made the image, every byte of it.
    ///
    /// # Errors
    /// [`ImageError::Untagged`] and [`ImageError::Tag`].
    pub fn authenticate(&self, key: &StateKey) -> Result<(), ImageError> {
        let (covered, tag) = self.tag.ok_or(ImageError::Untagged)?;
        if key.verifies(covered, tag) { Ok(()) } else { Err(ImageError::Tag) }
    }

    /// What the image says about itself.
    #[must_use]
    pub fn header(&self) -> &ImageHeader {
        &self.header
    }

    /// The payloads, block by block, each verified as it is reached.
    #[must_use]
    pub fn frames(&self) -> Frames<'_, 'a> {
        Frames { image: self, index: 0, rest: Reader::new(self.frames) }
    }

    /// Verifies every payload.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify(&self) -> Result<(), ImageError> {
        self.frames().try_for_each(|payload| payload.map(drop))
    }
}

/// Verified payloads of an [`Image`]; ends after the first error.
#[derive(Debug)]
pub struct Frames<'i, 'a> {
    image: &'i Image<'a>,
    index: usize,
    rest: Reader<'a>,
}

impl<'a> Iterator for Frames<'_, 'a> {
    type Item = Result<&'a [u8], ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.image.header.blocks() {
            return None;
        }
        let block = self.index;
        let payload = self.frame(block);
        self.index = if payload.is_ok() { block + 1 } else { usize::MAX };
        Some(payload)
    }
}

impl<'a> Frames<'_, 'a> {
    fn frame(&mut self, block: usize) -> Result<&'a [u8], ImageError> {
        let expected = self.image.header.payload_len(block);
        let left = self.rest.left() as u64;
        let truncated = ImageError::Truncated { wanted: FRAME_HEADER_LEN as u64 + expected, found: left };
        let (Some(found), Some(checksum)) = (self.rest.u64(), self.rest.u64()) else { return Err(truncated) };
        if found != expected {
            return Err(ImageError::BlockLength { block, found, expected });
        }
        let payload = usize::try_from(expected).ok().and_then(|len| self.rest.take(len)).ok_or(truncated)?;
        if xxh3_64_with_seed(payload, frame_seed(self.image.checksum, block)) != checksum {
            return Err(ImageError::BlockChecksum { block });
        }
        Ok(payload)
    }
}

/// The fields behind the token count, which the caller has held against the bytes. `None` if they end early.
fn read_header(reader: &mut Reader<'_>, tokens: u32) -> Option<Result<ImageHeader, ImageError>> {
    let fingerprint = *reader.take(32)?.first_chunk()?;
    let [layers, kv_heads, head_dim, head_dim_v, dtype, block_tokens, exact] = [
        reader.u32()?,
        reader.u32()?,
        reader.u32()?,
        reader.u32()?,
        reader.u32()?,
        reader.u32()?,
        reader.u32()?,
    ];
    let Some((keys, values)) = unpack(dtype) else {
        return Some(Err(ImageError::KvType { found: dtype }));
    };
    let layout = Layout { layers, kv_heads, head_dim, head_dim_v, keys, values, block_tokens };
    let ids = reader.take(tokens as usize * 4)?;
    let tokens = ids.as_chunks().0.iter().map(|id| TokenId(u32::from_le_bytes(*id))).collect();
    Some(Ok(ImageHeader { fingerprint, layout, tokens, exact }))
}

fn fits(header: &ImageHeader, expected: &Expected) -> Result<(), ImageError> {
    if header.fingerprint != expected.fingerprint {
        let (found, expected) = (Box::new(header.fingerprint), Box::new(expected.fingerprint));
        return Err(ImageError::OtherModel { found, expected });
    }
    if header.layout != expected.layout {
        let (found, expected) = (Box::new(header.layout), Box::new(expected.layout));
        return Err(ImageError::Layout { found, expected });
    }
    check_tokens(&header.tokens, expected)
}

/// Whether the slot has room for the tokens and the model knows them.
pub(super) fn check_tokens(tokens: &[TokenId], expected: &Expected) -> Result<(), ImageError> {
    let found = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    if found > expected.max_tokens {
        return Err(ImageError::TooManyTokens { found, limit: expected.max_tokens });
    }
    match tokens.iter().position(|token| token.0 >= expected.vocab) {
        Some(position) => {
            Err(ImageError::BadToken { position, token: tokens[position].0, vocab: expected.vocab })
        }
        None => Ok(()),
    }
}
