//! Names and bytes of the files: `<first 2 digits of the key>/<its 64 digits>.kv`.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use reprise_kv::stored::{BlockKey, Claim};

use crate::store::write_all;

/// Marks files that a crash may leave behind; [`Folder::scan`] removes them.
const TEMPORARY_PREFIX: &str = ".reprise-tmp-";
/// Files that are of no use are left alone for so long: another server may be writing them.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often, at most, a file's time says that it was used, seconds.
const TOUCH: u64 = 60;
/// More than any model's block has, bytes.
pub(super) const LARGEST: u64 = 256 << 20;

/// A folder of blocks.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

/// A block that was found in a file. Its bytes have not been verified.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) claim: Claim,
    pub(super) bytes: u64,
    /// Unix time, seconds.
    pub(super) used: u64,
}

impl Folder {
    /// Takes a folder, or makes it.
    ///
    /// # Errors
    /// When it is not there after that.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot use the folder of --cache-path, '{}'", path.display());
        anyhow::ensure!(path.is_dir() || !path.exists(), "{}: it is no folder", cannot());
        make(path).with_context(cannot)?;
        fs::read_dir(path).with_context(cannot)?;
        Ok(Self(path.to_owned()))
    }

    fn subfolder(&self, key: &BlockKey) -> PathBuf {
        self.0.join(format!("{:02x}", key.as_bytes()[0]))
    }

    fn file(&self, key: &BlockKey) -> PathBuf {
        self.subfolder(key).join(format!("{key}.kv"))
    }

    /// When a block was last used, if its file is there.
    pub(super) fn used(&self, key: &BlockKey) -> Option<u64> {
        fs::metadata(self.file(key)).ok().filter(Metadata::is_file).as_ref().map(used)
    }

    /// Whether the block's file is there, as far as its first bytes and its length tell.
    pub(super) fn has(&self, expected: &Claim, bytes: u64) -> bool {
        let path = self.file(&expected.key);
        let metadata =
            fs::metadata(&path).ok().filter(|metadata| metadata.is_file() && metadata.len() == bytes);
        metadata.is_some_and(|metadata| claim(&path, &metadata).ok().flatten().as_ref() == Some(expected))
    }

    /// Writes a block's file whole or not at all, as far as other readers can tell.
    ///
    /// It is not synced: that takes longer than the write, and a power failure costs no more than blocks, which are
    /// found to be damaged and computed anew.
    pub(super) fn write(&self, key: &BlockKey, parts: &[Bytes]) -> io::Result<()> {
        let subfolder = self.subfolder(key);
        make(&subfolder)?;
        // Readable by its owner only, and gone again when anything fails.
        let mut temporary = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(&subfolder)?;
        write_all(temporary.as_file_mut(), parts)?;
        temporary.persist(self.file(key)).map_err(|failed| failed.error)?;
        Ok(())
    }

    /// Reads a block's file and notes in it that it was used.
    pub(super) fn read(&self, key: &BlockKey) -> io::Result<Bytes> {
        let path = self.file(key);
        // Looked at before it is opened: opening a pipe would wait.
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let file = File::open(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        (&file).take(LARGEST).read_to_end(&mut bytes)?;
        if used(&metadata) + TOUCH <= now() {
            // Where it may not be noted, the block goes sooner.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(bytes.into())
    }

    /// Removes a block's file; removing what is not there is no error.
    pub(super) fn remove(&self, key: &BlockKey) -> io::Result<()> {
        match fs::remove_file(self.file(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All blocks, until `stop` says so. Removes what a crash has left half-written and what has a block's name and is
    /// none; what has another name is not ours, and stays.
    pub(super) fn scan(&self, stop: impl Fn() -> bool) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for subfolder in fs::read_dir(&self.0)?.filter_map(Result::ok) {
            if stop() {
                break;
            }
            let name = subfolder.file_name();
            let ours = is_prefix(&name) && subfolder.file_type().is_ok_and(|kind| kind.is_dir());
            let Some(files) = ours.then(|| fs::read_dir(subfolder.path()).ok()).flatten() else { continue };
            found.extend(files.filter_map(Result::ok).filter_map(|file| inspect(&file, &name)));
        }
        Ok(found)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// When a file was last written or read. A clock that was ahead must not keep a block for ever.
fn used(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| since.as_secs()).min(now())
}

/// Makes a folder that is for its owner only, unless it is there.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn is_prefix(name: &OsStr) -> bool {
    matches!(name.as_encoded_bytes(), [_, _] if name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit))
}

/// What a file in a subfolder is, removed if it is a leftover.
fn inspect(file: &DirEntry, subfolder: &OsStr) -> Option<Found> {
    let name = file.file_name();
    let name = name.to_str()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let key = name.strip_suffix(".kv").and_then(BlockKey::from_hex);
    let key = key.filter(|_| subfolder.to_str().is_some_and(|prefix| name.starts_with(prefix)));
    if let Some(key) = key {
        match claim(&file.path(), &metadata) {
            Ok(Some(claim)) if claim.key == key => {
                return Some(Found { claim, bytes: metadata.len(), used: used(&metadata) });
            }
            // It may be readable another time.
            Err(_) => return None,
            Ok(_) => {}
        }
    }
    let leftover = key.is_some() || name.starts_with(TEMPORARY_PREFIX);
    if leftover && now().saturating_sub(used(&metadata)) >= PATIENCE.as_secs() {
        // Another server may have been faster.
        let _ = fs::remove_file(file.path());
    }
    None
}

/// What a file says of itself, if its length bears it out.
fn claim(path: &Path, metadata: &Metadata) -> io::Result<Option<Claim>> {
    let mut head = Vec::with_capacity(Claim::LEN);
    File::open(path)?.take(Claim::LEN as u64).read_to_end(&mut head)?;
    let fits = |claim: &Claim| claim.payload_len < metadata.len() && metadata.len() <= LARGEST;
    Ok(Claim::of(&head).filter(fits))
}
