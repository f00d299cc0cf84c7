//! Threads of the CPU backend: fork, share tasks by an atomic counter, join.
//!
//! The caller works too, so `threads - 1` helpers exist and a pool of one thread never spawns. The host may start the
//! threads itself: a browser's are workers. A step of a small model forks about two hundred times, each for some 20 us of
//! work, hence two rules that general pools do not have: helpers spin for a moment before they sleep, and the caller waits
//! only for helpers that have begun. On a busy machine a helper that the system has not run yet costs nothing; the caller
//! does its share.

mod helpers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

pub use helpers::HelperThread;
use helpers::Helpers;

/// A fixed set of threads.
#[derive(Debug)]
pub(crate) struct Pool {
    helpers: Option<Helpers>,
    /// Those that the pool started itself.
    threads: Vec<JoinHandle<()>>,
    /// Most threads that share a task list.
    limit: AtomicUsize,
}

impl Pool {
    /// A pool of `threads` threads, the caller counted. Where threads cannot be had, the caller works alone.
    pub(crate) fn new(threads: usize) -> Self {
        let mut started = Vec::new();
        let mut pool = Self::with_helpers(threads, |helper| {
            let name = format!("reprise-cpu-{}", started.len() + 1);
            match Builder::new().name(name).spawn(move || helper.run()) {
                Ok(thread) => started.push(thread),
                Err(_) => return false,
            }
            true
        });
        pool.threads = started;
        pool
    }

    /// As [`Pool::new`], with threads that `spawn` starts: each is to run what it is given. `spawn` says whether it could.
    pub(crate) fn with_helpers(threads: usize, spawn: impl FnMut(HelperThread) -> bool) -> Self {
        let helpers = Helpers::spawn(threads.saturating_sub(1), spawn);
        Self { helpers, threads: Vec::new(), limit: AtomicUsize::new(usize::MAX) }
    }

    /// Lets at most so many threads share a task list from now on, the caller counted.
    pub(crate) fn limit(&self, threads: usize) {
        self.limit.store(threads.max(1), Ordering::Relaxed);
    }

    /// Threads that share a task list, the caller counted.
    pub(crate) fn threads(&self) -> usize {
        let all = 1 + self.helpers.as_ref().map_or(0, Helpers::count);
        all.min(self.limit.load(Ordering::Relaxed))
    }

    /// Calls `task` for every index below `tasks`, each once, in no particular order. A call from inside a task runs on
    /// the calling thread alone.
    ///
    /// # Panics
    /// If a task panics.
    pub(crate) fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let Some(helpers) = self.helpers.as_ref().filter(|_| tasks > 1 && self.threads() > 1) else {
            (0..tasks).for_each(task);
            return;
        };
        let (next, entered, limit) = (AtomicUsize::new(0), AtomicUsize::new(0), self.threads());
        helpers.share(&|| {
            // Whoever comes in beyond the limit finds the places taken; the first is not always the caller.
            if entered.fetch_add(1, Ordering::Relaxed) >= limit {
                return;
            }
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    break;
                }
                task(index);
            }
        });
    }

    /// Calls `work(i, item)` for the `i`-th of the `count` items.
    pub(crate) fn each<I>(&self, count: usize, items: I, work: impl Fn(usize, I::Item) + Sync)
    where
        I: Iterator + Send,
    {
        if count <= 1 || self.helpers.is_none() {
            items.enumerate().for_each(|(i, item)| work(i, item));
            return;
        }
        let items = Mutex::new(items.enumerate());
        self.run(count, |_| {
            // A panic of another task poisons the lock but not the iterator behind it.
            let taken = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            if let Some((i, item)) = taken {
                work(i, item);
            }
        });
    }

    /// Calls `work(i, chunk)` for the `i`-th chunk of `size` elements of `data`.
    pub(crate) fn chunks<T: Send>(&self, data: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let size = size.max(1);
        self.each(data.len().div_ceil(size), data.chunks_mut(size), work);
    }

    /// Rows per chunk for an element-wise operation on `rows` rows of `width`: one chunk when forking costs more than the
    /// work, else a few chunks a thread.
    pub(crate) fn rows_per_chunk(&self, rows: usize, width: usize) -> usize {
        const WORTH_FORKING: usize = 32 * 1024;
        if rows * width < WORTH_FORKING {
            return rows.max(1);
        }
        rows.div_ceil(self.threads() * 4).max(1)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Tells the helpers to end.
        self.helpers = None;
        for thread in self.threads.drain(..) {
            // Helpers catch the panics of jobs; nothing else of theirs can fail.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_threads() {
        for threads in [0, 1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
        }
    }

    #[test]
    fn many_short_forks_on_more_threads_than_cores() {
        let pool = Pool::new(8);
        let total = AtomicUsize::new(0);
        for _ in 0..5000 {
            pool.run(16, |i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
        }
        assert_eq!(total.into_inner(), 5000 * 120);
    }

    #[test]
    fn chunks_cover_the_data_and_know_their_index() {
        let pool = Pool::new(3);
        let mut data = vec![0usize; 1003];
        pool.chunks(&mut data, 10, |i, chunk| chunk.fill(i + 1));
        assert!(data.iter().enumerate().all(|(at, &v)| v == at / 10 + 1));
    }

    #[test]
    fn a_fork_inside_a_task_runs() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(5, |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 20);
    }

    #[test]
    fn a_panic_of_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(4);
        for _ in 0..20 {
            let run = || pool.run(64, |i| assert!(i != 33, "task 33"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        }
        let total = AtomicUsize::new(0);
        pool.run(64, |_| {
            total.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 64);
        assert_eq!(pool.threads(), 4);
    }

    #[test]
    fn a_host_starts_the_threads_and_may_refuse() {
        let mut handed = Vec::new();
        let pool = Pool::with_helpers(4, |helper| {
            let room = handed.len() < 2;
            if room {
                handed.push(helper);
            }
            room
        });
        assert_eq!((pool.threads(), handed.len()), (3, 2));
        // Helpers that do not run are not waited for; those that come late help, and end with the pool.
        let total = AtomicUsize::new(0);
        pool.run(10, |i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
        let start = |helper: HelperThread| Builder::new().spawn(|| helper.run()).unwrap();
        let threads: Vec<_> = handed.into_iter().map(start).collect();
        for _ in 0..100 {
            pool.run(10, |i| {
                total.fetch_add(i, Ordering::Relaxed);
            });
        }
        drop(pool);
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        assert_eq!(total.into_inner(), 101 * 45);
    }

    #[test]
    fn no_more_threads_than_the_limit_share_a_list() {
        let pool = Pool::new(4);
        for limit in [1, 2, 3] {
            pool.limit(limit);
            assert_eq!(pool.threads(), limit);
            for _ in 0..200 {
                let seen = Mutex::new(std::collections::HashSet::new());
                pool.run(16, |_| {
                    std::thread::yield_now();
                    seen.lock().unwrap().insert(std::thread::current().id());
                });
                assert!(seen.into_inner().unwrap().len() <= limit);
            }
        }
        pool.limit(9);
        assert_eq!(pool.threads(), 4);
    }

    #[test]
    fn one_thread_has_no_helpers() {
        assert!(Pool::new(1).helpers.is_none());
        assert_eq!(Pool::new(0).threads(), 1);
    }
}
