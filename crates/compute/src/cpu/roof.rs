//! The machine's own limits on a backend's threads, for benchmarks to hold its speed against.

use super::{Cpu, Threads};
use crate::kernels::arena::{Arena, Room};
use crate::kernels::roof;

/// Bytes of memory that a thread takes at a time.
const CHUNK: usize = 1 << 20;
/// Turns of multiply-adds that a thread takes at a time: some 50 us.
const TURNS: usize = 4000;

/// The most that the machine does on the threads of a [`Cpu`]. Whoever asks takes the time.
#[derive(Debug)]
pub struct Roof<'a> {
    threads: &'a Threads,
    memory: Room,
}

impl Cpu {
    /// Its limits; `bytes`, rounded to whole MiB, is the memory that [`Roof::read`] reads, which ought to be many times the caches.
    /// `None` when there is not so much.
    #[must_use]
    pub fn roof(&self, bytes: usize) -> Option<Roof<'_>> {
        let mut memory = Arena::default().room(bytes.checked_next_multiple_of(CHUNK)?)?;
        // Memory that nobody wrote to is all the same page.
        self.threads.pool.chunks(memory.as_mut(), CHUNK, |_, chunk| chunk.fill(1));
        Some(Roof { threads: &self.threads, memory })
    }
}

impl Roof<'_> {
    /// Multiplies 8-bit integers and adds the products, `count` times or somewhat oftener; how often it was.
    #[must_use]
    pub fn multiply_adds(&self, count: u64) -> u64 {
        let task = (TURNS * roof::TURN) as u64;
        let tasks = count.div_ceil(task);
        self.threads.pool.run(tasks as usize, |_| roof::turns(self.threads.isa, TURNS));
        tasks * task
    }

    /// Reads the memory once, in a stream a thread; bytes read.
    #[must_use]
    pub fn read(&self) -> u64 {
        let bytes = self.memory.as_ref();
        let chunks = bytes.len() / CHUNK;
        self.threads.pool.run(chunks, |index| {
            roof::read(self.threads.isa, &bytes[index * CHUNK..(index + 1) * CHUNK]);
        });
        bytes.len() as u64
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_did() {
        let cpu = Cpu::new(2);
        let roof = cpu.roof(CHUNK + 1).expect("memory");
        assert_eq!(roof.read(), 2 * CHUNK as u64);
        assert!(roof.memory.as_ref().iter().all(|&byte| byte == 1));
        let task = (TURNS * roof::TURN) as u64;
        assert_eq!((roof.multiply_adds(1), roof.multiply_adds(task + 1)), (task, 2 * task));
    }
}
