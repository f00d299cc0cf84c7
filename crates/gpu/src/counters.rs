//! What was done on the device, counted: for tests of the steady state and for the bench, where a software adapter's
//! seconds say nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since a [`crate::Gpu`] was opened or cloned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Compute dispatches.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submits: u64,
    /// Buffers mapped for reading.
    pub readbacks: u64,
    /// Bytes read back.
    pub bytes_read: u64,
    /// Bytes uploaded: weights, parameters, step data, imported KV.
    pub bytes_written: u64,
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
}

impl Counters {
    /// What was done since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            submits: self.submits - before.submits,
            readbacks: self.readbacks - before.readbacks,
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_written: self.bytes_written - before.bytes_written,
            buffers: self.buffers - before.buffers,
            bind_groups: self.bind_groups - before.bind_groups,
            pipelines: self.pipelines - before.pipelines,
        }
    }
}

/// The counters at work; shared references count.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) dispatches: Count,
    pub(crate) submits: Count,
    pub(crate) readbacks: Count,
    pub(crate) bytes_read: Count,
    pub(crate) bytes_written: Count,
    pub(crate) buffers: Count,
    pub(crate) bind_groups: Count,
    pub(crate) pipelines: Count,
}

impl Meter {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            dispatches: self.dispatches.get(),
            submits: self.submits.get(),
            readbacks: self.readbacks.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
            buffers: self.buffers.get(),
            bind_groups: self.bind_groups.get(),
            pipelines: self.pipelines.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
