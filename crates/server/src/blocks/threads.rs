//! The threads' loops.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use bytes::Bytes;
use futures::channel::oneshot;
use reprise_kv::stored::BlockKey;

use super::shared::Shared;

/// What the writing thread is asked to do, one after the other.
#[derive(Debug)]
pub(super) enum Order {
    /// Write a block of the queue.
    Write(BlockKey),
    /// Say that everything before is done.
    Tell(oneshot::Sender<()>),
}

/// A block that somebody waits for.
pub(super) type Wanted = (BlockKey, oneshot::Sender<Option<Bytes>>);

/// Looks through the folder, then writes what is queued, until the store is closed.
pub(super) fn write(shared: &Shared, orders: &Receiver<Order>) {
    shared.scan();
    let mut scanned = Instant::now();
    while !shared.is_closed() {
        match orders.recv_timeout(shared.limits.rescan) {
            Ok(Order::Write(key)) => shared.write(&key),
            // Whoever asked may have left.
            Ok(Order::Tell(tell)) => drop(tell.send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if scanned.elapsed() >= shared.limits.rescan {
            shared.scan();
            scanned = Instant::now();
        }
    }
}

/// Reads what is wanted, until the store is closed.
pub(super) fn read(shared: &Shared, wanted: &Receiver<Wanted>) {
    while let Ok((key, tell)) = wanted.recv() {
        if shared.is_closed() {
            return;
        }
        if !tell.is_canceled() {
            // Whoever asked may have left.
            let _ = tell.send(shared.read(&key));
        }
    }
}
