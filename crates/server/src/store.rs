//! Slot images as files in one folder.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use reprise_engine::{SlotStore, StoreError};

/// Marks files that a crash may leave behind; [`DirStore::open`] removes them.
const TEMPORARY_PREFIX: &str = ".reprise-tmp-";

/// A folder of slot files (`--slot-save-path`). A file is written under a temporary name, synced and renamed, so a crash
/// at any moment leaves the old file or the new one.
#[derive(Debug)]
pub(crate) struct DirStore {
    folder: PathBuf,
}

impl DirStore {
    /// Takes a folder, and removes what an earlier crash left half-written.
    ///
    /// # Errors
    /// When it is not a folder; the text is llama-server's.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            folder.is_dir(),
            "error while handling argument \"--slot-save-path\": not a directory: {}",
            folder.display()
        );
        for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                // Left behind by a crash, or by another server that is writing now: then its rename fails and is reported.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<u64> {
        let mut temporary = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(&self.folder)?;
        let length = write_all(temporary.as_file_mut(), parts)?;
        temporary.as_file().sync_all()?;
        temporary.persist(self.folder.join(name)).map_err(|failed| failed.error)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(length)
    }

    fn read(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let file = File::open(self.folder.join(name)).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(StoreError::Failed("not a file".into()));
        }
        let found = metadata.len();
        if found > limit {
            return Err(StoreError::TooLarge { found, limit });
        }
        let mut image = Vec::with_capacity(usize::try_from(found).unwrap_or(0));
        // The file may grow between the two calls: the limit holds for what is read, not only for what was announced.
        file.take(limit).read_to_end(&mut image).map_err(failed)?;
        Ok(Bytes::from(image))
    }
}

impl SlotStore for DirStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<u64, StoreError> {
        self.write(name, &parts).map_err(failed)
    }

    async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.read(name, limit)
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        let entries = fs::read_dir(&self.folder).map_err(failed)?;
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with(TEMPORARY_PREFIX))
            .collect();
        names.sort();
        Ok(names)
    }
}

/// Writes all parts, without joining them; the number of bytes.
pub(crate) fn write_all(file: &mut File, parts: &[Bytes]) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    let mut length = 0;
    // Empty parts in front would make the first write look like a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => {
                length += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
    }
    Ok(length)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            StoreError::Failed("no space is left on the disk of the slot files".into())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn store() -> (tempfile::TempDir, DirStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn what_was_put_is_fetched_and_listed() {
        let (_folder, store) = store();
        let parts = vec![Bytes::from_static(b"head"), Bytes::new(), Bytes::from_static(b"body")];
        assert_eq!(block_on(store.put("a", parts)).unwrap(), 8);
        assert_eq!(&block_on(store.fetch("a", 8)).unwrap()[..], b"headbody");
        assert_eq!(block_on(store.list()).unwrap(), ["a"]);
        block_on(store.remove("a")).unwrap();
        block_on(store.remove("a")).unwrap();
        assert_eq!(block_on(store.fetch("a", 8)), Err(StoreError::Missing));
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let (_folder, store) = store();
        block_on(store.put("a", vec![Bytes::from_static(b"123456789")])).unwrap();
        assert_eq!(block_on(store.fetch("a", 8)), Err(StoreError::TooLarge { found: 9, limit: 8 }));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_leftover() {
        let (folder, store) = store();
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(block_on(store.put("taken", vec![Bytes::from_static(b"x")])).is_err());
        assert!(folder.path().join("taken").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{TEMPORARY_PREFIX}1-a")), b"half").unwrap();
        DirStore::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_not_a_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(DirStore::open(file.path()).unwrap_err().to_string().contains("not a directory"));
    }
}
