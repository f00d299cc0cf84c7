//! Memory for repacked weights and for KV blocks, in pages of 2 MiB where the system has them.
//!
//! A step of decoding reads every weight and every cell of its sequences once. With pages of 4 KiB the look-ups of their
//! addresses, and the prefetcher that stops at each page's end, cost up to half of the speed of memory; so they share a few
//! large regions for which large pages are asked. A wasm module has no pages to choose: weights stay where they were read to.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// A large page of x86-64 and of most ARM systems.
const PAGE: usize = 2 << 20;
/// Bytes of a region, unless a weight is larger. What is never written to takes no memory.
const REGION: usize = 64 << 20;
/// Weights begin at cache lines.
const LINE: usize = 64;

/// Regions that weights or blocks are put into, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    current: Mutex<Option<(Arc<Region>, usize)>>,
}

/// Anonymous memory; freed with the last room in it.
#[derive(Debug)]
struct Region {
    /// Never used through the map but by its address.
    _map: MmapMut,
    /// The first byte, at a page's begin.
    first: *mut u8,
    len: usize,
}

// SAFETY: the memory is reached only through the rooms in it, which share no byte; each is borrowed like a slice of its own.
#[allow(unsafe_code)]
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
#[allow(unsafe_code)]
unsafe impl Sync for Region {}

/// Part of a region that nobody else has.
#[derive(Debug)]
pub(crate) struct Room {
    region: Arc<Region>,
    at: usize,
    len: usize,
}

impl Arena {
    /// `len` bytes that `fill` has written to; they were zero. `None` when the system gives no memory.
    pub(crate) fn put(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Bytes> {
        let mut room = self.room(len)?;
        fill(room.as_mut());
        Some(Bytes::from_owner(room))
    }

    /// `len` zero bytes at a cache line. `None` when the system gives no memory.
    pub(crate) fn room(&self, len: usize) -> Option<Room> {
        // A panic under the lock leaves a region of which some bytes are not used.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (region, at) = match current.take() {
            Some((region, used)) if region.len - used >= len => (region, used),
            _ => (Arc::new(Region::new(len.max(REGION))?), 0),
        };
        *current = Some((Arc::clone(&region), (at + len).next_multiple_of(LINE).min(region.len)));
        Some(Room { region, at, len })
    }
}

impl Region {
    fn new(len: usize) -> Option<Self> {
        let len = len.checked_next_multiple_of(PAGE)?;
        let mut map = MmapMut::map_anon(len.checked_add(PAGE)?).ok()?;
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(memmap2::Advice::HugePage) {
            // Small pages are slower and as right.
            let _ = error;
        }
        let skipped = map.as_ptr().align_offset(PAGE);
        let first = map.get_mut(skipped..skipped + len)?.as_mut_ptr();
        Some(Self { _map: map, first, len })
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Arena::room` gave these bytes of the region to this room alone.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.region.first.add(self.at), self.len)
        }
    }
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_ref`; whoever borrows the room mutably is the only one who has its bytes.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.region.first.add(self.at), self.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_apart_and_outlive_the_arena() {
        let arena = Arena::default();
        let sizes = [1, 100, 64, 0, REGION - 1000, 5000, REGION + 1];
        let parts: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| {
                let part = arena.put(size, |bytes| {
                    assert!(bytes.iter().all(|&byte| byte == 0));
                    bytes.fill(i as u8);
                });
                part.expect("memory")
            })
            .collect();
        drop(arena);
        for (i, (part, size)) in parts.iter().zip(sizes).enumerate() {
            assert_eq!(part.as_ptr().align_offset(LINE), 0);
            assert!(part.len() == size && part.iter().all(|&byte| byte == i as u8));
        }
    }
}
