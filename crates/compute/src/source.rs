//! Weights that a backend wants in one piece.

use std::ops::Range;

use bytes::Bytes;
use reprise_gguf::{ModelSource, SourceError};

use crate::ComputeError;

/// All bytes of a weight; a view where the source is mapped or in memory.
///
/// # Errors
/// [`ComputeError::Source`] when the read fails or gives another number of bytes.
pub(crate) async fn whole(source: &impl ModelSource, range: Range<u64>) -> Result<Bytes, ComputeError> {
    let data = source.read(range.clone()).await?;
    if data.len() as u64 != range.end.saturating_sub(range.start) {
        return Err(SourceError::Short { range, found: data.len() }.into());
    }
    Ok(data)
}
