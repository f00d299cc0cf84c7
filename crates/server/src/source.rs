//! A model file on disk, mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use reprise_gguf::{ModelSource, SourceError};

/// A memory-mapped file: reads are views, pages come from the page cache.
#[derive(Debug, Clone)]
pub(crate) struct MappedFile(Bytes);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open model '{}'", path.display()))?;
        let metadata = file.metadata().with_context(|| format!("cannot read model '{}'", path.display()))?;
        anyhow::ensure!(metadata.is_file(), "model '{}' is not a file", path.display());
        anyhow::ensure!(metadata.len() > 0, "model '{}' is empty", path.display());
        // SAFETY: the map is read-only and private to this process. As with every mapped model file, somebody who
        // truncates the file while it is served can make a read fault; that is the price of not copying the weights,
        // and files are replaced by rename, not truncated, by every download tool we know.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }
            .with_context(|| format!("cannot map model '{}'", path.display()))?;
        Ok(Self(Bytes::from_owner(map)))
    }
}

impl ModelSource for MappedFile {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        reprise_gguf::MemorySource(self.0.clone()).read(range).await
    }
}
