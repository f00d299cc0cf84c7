//! Where blocks are: a folder or a URL.

use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use reprise_engine::{BlockStore, BlockStoreStats};
use reprise_kv::stored::BlockKey;

use super::DirBlocks;
use super::remote::UrlBlocks;

/// The value of `--cache-path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    Url(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("http" | "https") => Ok(Self::Url(text.to_owned())),
            Some(other) => {
                Err(format!("a URL may be http or https, not {other}; a gateway may stand in between"))
            }
            None => Ok(Self::Folder(text.into())),
        }
    }
}

/// Blocks of either kind.
#[derive(Debug)]
pub(crate) enum Blocks {
    Folder(DirBlocks),
    Url(UrlBlocks),
}

impl BlockStore for Blocks {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        match self {
            Self::Folder(blocks) => blocks.find(keys).await,
            Self::Url(blocks) => blocks.find(keys).await,
        }
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        match self {
            Self::Folder(blocks) => blocks.read(key).await,
            Self::Url(blocks) => blocks.read(key).await,
        }
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        match self {
            Self::Folder(blocks) => blocks.write(key, parts),
            Self::Url(blocks) => blocks.write(key, parts),
        }
    }

    fn holds(&self, key: &BlockKey) -> bool {
        match self {
            Self::Folder(blocks) => blocks.holds(key),
            Self::Url(blocks) => blocks.holds(key),
        }
    }

    fn discard(&self, key: &BlockKey) {
        match self {
            Self::Folder(blocks) => blocks.discard(key),
            Self::Url(blocks) => blocks.discard(key),
        }
    }

    async fn flush(&self) {
        match self {
            Self::Folder(blocks) => blocks.flush().await,
            Self::Url(blocks) => blocks.flush().await,
        }
    }

    fn stats(&self) -> BlockStoreStats {
        match self {
            Self::Folder(blocks) => blocks.stats(),
            Self::Url(blocks) => blocks.stats(),
        }
    }
}
