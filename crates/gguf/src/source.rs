//! Where the bytes of a model come from.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;

/// A model file that can be read by range; nothing may assume that all of it is in memory.
///
/// Hosts implement it over a mapped file, OPFS or HTTP ranges; [`MemorySource`] is the peer for tests.
pub trait ModelSource {
    /// Length of the file, bytes.
    fn len(&self) -> u64;

    /// Whether the file has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, all of them. A mapped file answers with a view of the mapping, others with a buffer.
    ///
    /// # Errors
    /// [`SourceError`] when the range reaches past the end or the read fails.
    fn read(&self, range: Range<u64>) -> impl Future<Output = Result<Bytes, SourceError>>;

    /// Says that nobody will read `range` soon: who reads it has a copy. A mapped file gives its pages back, which another
    /// read, or a view that is still held, brings in again.
    fn release(&self, _range: Range<u64>) {}
}

/// A failed read from a [`ModelSource`].
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Bytes were asked for that the file does not have.
    #[error("bytes {start}..{end} were asked for, but the file has {len}", start = .range.start, end = .range.end)]
    OutOfRange {
        /// What was asked for.
        range: Range<u64>,
        /// Length of the file.
        len: u64,
    },
    /// The file changed while it was open, or a server answered with another range.
    #[error("bytes {start}..{end} were asked for, but {found} came: did the file change while it was read?", start = .range.start, end = .range.end)]
    Short {
        /// What was asked for.
        range: Range<u64>,
        /// How many bytes came.
        found: usize,
    },
    /// The medium failed.
    #[error("reading the model failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A model that is in memory.
#[derive(Debug, Clone)]
pub struct MemorySource(pub Bytes);

impl ModelSource for MemorySource {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match bounds {
            Some((start, end)) if start <= end && end <= self.0.len() => Ok(self.0.slice(start..end)),
            _ => Err(SourceError::OutOfRange { range, len: self.len() }),
        }
    }
}
