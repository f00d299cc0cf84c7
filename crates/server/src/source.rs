//! A model file on disk, mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use memmap2::Mmap;
use reprise_gguf::{ModelSource, SourceError};

/// A memory-mapped file: reads are views, pages come from the page cache.
#[derive(Debug, Clone)]
pub(crate) struct MappedFile {
    map: Arc<Mmap>,
    bytes: Bytes,
}

/// What the views of a map keep alive.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

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
        let map =
            unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map model '{}'", path.display()))?;
        // All of it will be read, from its start on. A system that takes no advice reads it all the same.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::WillNeed);
        let map = Arc::new(map);
        Ok(Self { bytes: Bytes::from_owner(Owner(Arc::clone(&map))), map })
    }
}

impl ModelSource for MappedFile {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        reprise_gguf::MemorySource(self.bytes.clone()).read(range).await
    }

    #[cfg(unix)]
    fn release(&self, range: Range<u64>) {
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else { return };
        // SAFETY: the map is of a file and never written, so a page that is given back comes again with the same bytes.
        #[allow(unsafe_code)]
        let _ = unsafe {
            self.map.unchecked_advise_range(
                memmap2::UncheckedAdvice::DontNeed,
                start,
                end.saturating_sub(start),
            )
        };
    }
}
