//! Threads that help the caller with one job at a time.
//!
//! One word holds the state: the job's number, whether it is open, and how many helpers are in it. A helper enters an
//! open job it has not seen by counting itself in; the caller closes the job when its own share is done, after which
//! nobody enters, and waits for the count to fall to zero. The job therefore outlives every use of it.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::yield_now;

/// A turn of waiting takes ten times as long where the processor has an instruction for it; wasm has none.
const TURNS: u32 = if cfg!(target_family = "wasm") { 10 } else { 1 };
/// Turns of a helper's wait, some 50 us, before it sleeps.
const SPINS_BEFORE_SLEEP: u32 = 4000 * TURNS;
/// Turns of the caller's wait between two offers of its core to others.
const SPINS_BEFORE_YIELD: u32 = 500 * TURNS;

/// Bit of the state: the job may be entered.
const OPEN: u64 = 1 << 31;
/// Bits of the state: helpers in the job.
const INSIDE: u64 = OPEN - 1;
/// Unit of the job's number, in the state's upper half.
const NUMBER: u64 = 1 << 32;

/// What a helper calls: a reference to a closure, seen through one more reference so that it is one word.
type Job<'a> = &'a (dyn Fn() + Sync);

/// The helping threads; dropped, they end.
#[derive(Debug)]
pub(super) struct Helpers {
    shared: Arc<Shared>,
    count: usize,
}

/// What a helping thread of a [`Cpu`](crate::Cpu) does: the host that starts the thread has it call [`HelperThread::run`].
#[derive(Debug)]
pub struct HelperThread {
    shared: Arc<Shared>,
}

impl HelperThread {
    /// Helps until the backend is dropped. It sleeps while there is nothing to do, so the thread must be one that may.
    pub fn run(self) {
        self.shared.help();
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU64,
    /// The open job: a `*const Job<'_>` on the caller's stack.
    job: AtomicPtr<()>,
    /// A caller is at work; another one works alone.
    taken: AtomicBool,
    panicked: AtomicBool,
    ending: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Helpers {
    /// Hands up to `count` helpers to `spawn`, until it says that there is no thread for one; `None` when that is the first.
    pub(super) fn spawn(count: usize, mut spawn: impl FnMut(HelperThread) -> bool) -> Option<Self> {
        let shared = Arc::new(Shared::default());
        let started = (0..count).take_while(|_| spawn(HelperThread { shared: Arc::clone(&shared) })).count();
        (started > 0).then_some(Self { shared, count: started })
    }

    /// How many there are. Those that do not run yet are not waited for.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `job` on this thread and on every helper that comes in time; returns when all have returned.
    ///
    /// # Panics
    /// If `job` panics on any thread.
    pub(super) fn share(&self, job: Job<'_>) {
        let shared = &*self.shared;
        if shared.taken.swap(true, Ordering::Acquire) {
            job();
            return;
        }
        shared.panicked.store(false, Ordering::Relaxed);
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        // Nobody is inside: the last job was closed and left. One number up, and open.
        let next = (shared.state.load(Ordering::Relaxed) & !(NUMBER - 1)).wrapping_add(NUMBER) | OPEN;
        shared.state.store(next, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that no helper is between its last look at the state and its sleep.
            let _lock = shared.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        // Closes the job also when it panics here: it must not be left while others are in it.
        let close = Close(shared);
        job();
        drop(close);
        assert!(!shared.panicked.load(Ordering::Relaxed), "a task of the CPU backend panicked");
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        drop(self.shared.sleep.lock());
        self.shared.wake.notify_all();
    }
}

/// Closes the open job when dropped.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut turns = 0;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            turns += 1;
            if turns % SPINS_BEFORE_YIELD == 0 {
                yield_now();
            }
            spin_loop();
        }
        shared.taken.store(false, Ordering::Release);
    }
}

impl Shared {
    /// A helper's life.
    fn help(&self) {
        let mut seen = 0;
        while let Some(number) = self.enter(seen) {
            seen = number;
            // SAFETY: `share` stored a pointer to its `job` before it opened the job, and cannot return before this helper is
            // counted out below.
            #[allow(unsafe_code)]
            let job = unsafe { *self.job.load(Ordering::Relaxed).cast::<Job<'_>>() };
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an open job with another number than `seen` and enters it; `None` when the pool ends.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut turns = 0;
        loop {
            let state = self.state.load(Ordering::Relaxed);
            let number = state & !(NUMBER - 1);
            if state & OPEN != 0 && number != seen {
                let entered =
                    self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
                if entered.is_ok() {
                    return Some(number);
                }
                continue;
            }
            if self.ending.load(Ordering::Relaxed) {
                return None;
            }
            turns += 1;
            if turns < SPINS_BEFORE_SLEEP {
                spin_loop();
                continue;
            }
            turns = 0;
            self.sleep_until_changed(state);
        }
    }

    /// Sleeps unless the state is no longer `state`.
    fn sleep_until_changed(&self, state: u64) {
        let lock = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Another helper's coming and going changes the state too: then one more round of spinning does no harm.
        if self.state.load(Ordering::SeqCst) == state && !self.ending.load(Ordering::SeqCst) {
            drop(self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}
