//! The store as a whole: what it keeps, what goes, what other servers do; then what may happen to its files.

mod behaviour;
mod children;
mod faults;
mod remote;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::executor::block_on;
use reprise_engine::BlockStore;
use reprise_gguf::TokenId;
use reprise_kv::stored::{BlockKey, StoredBlock, decode, encode};

use super::{DirBlocks, Limits};

/// A block of some chain, and its KV.
struct Block {
    parent: BlockKey,
    key: BlockKey,
    depth: u32,
    tokens: Vec<TokenId>,
    payload: Bytes,
}

impl Block {
    fn parts(&self) -> Vec<Bytes> {
        vec![encode(&self.stored(), &self.payload).into(), self.payload.clone()]
    }

    fn size(&self) -> u64 {
        self.parts().iter().map(|part| part.len() as u64).sum()
    }

    fn stored(&self) -> StoredBlock<'_> {
        StoredBlock { key: self.key, parent: self.parent, depth: self.depth, tokens: &self.tokens }
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        decode(bytes, &self.stored(), self.payload.len() as u64).ok()
    }

    /// What a server does with a block that it wants: its KV, or nothing, and then it is not there any more.
    fn fetch(&self, store: &DirBlocks) -> Option<Vec<u8>> {
        let bytes = block_on(store.read(&self.key))?;
        let payload = self.decode(&bytes).map(<[u8]>::to_vec);
        if payload.is_none() {
            store.discard(&self.key);
        }
        payload
    }

    fn file(&self, folder: &Path) -> PathBuf {
        let name = self.key.to_string();
        folder.join(&name[..2]).join(format!("{name}.kv"))
    }
}

/// The chain of a seed. Its KV follows from seed and depth.
fn chain(seed: u32, blocks: u32, payload: usize) -> Vec<Block> {
    let mut parent = BlockKey::from_bytes([0; 32]);
    let block = |depth: u32| {
        let tokens: Vec<TokenId> = (0..32).map(|token| TokenId(seed * 4096 + depth * 32 + token)).collect();
        let key = parent.child(&tokens);
        let payload = (0..payload).map(|at| (at as u32 ^ seed.wrapping_mul(31) ^ depth) as u8).collect();
        let block = Block { parent, key, depth, tokens, payload };
        parent = key;
        block
    };
    (0..blocks).map(block).collect()
}

fn open(folder: &Path) -> DirBlocks {
    limited(folder, Limits { settle: 0, ..Limits::new(None) })
}

fn limited(folder: &Path, limits: Limits) -> DirBlocks {
    let store = DirBlocks::open(folder, limits).unwrap();
    // The first look through the folder is done.
    block_on(store.flush());
    store
}

fn write_all<'a>(store: &DirBlocks, blocks: impl IntoIterator<Item = &'a Block>) {
    for block in blocks {
        store.write(block.key, block.parts());
    }
    block_on(store.flush());
}

/// Makes a file look as if it had last been used so long ago.
fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}
