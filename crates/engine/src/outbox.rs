//! The channel from a running request to its client. Sending never waits, for one slow client must not hold up the
//! others; instead a request whose client is far behind is not decoded until it has caught up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{Notify, mpsc};

use crate::Event;

/// Unread events from which on a request pauses.
const BACKLOG: usize = 1024;

/// The sending end; all copies of a request share one channel.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Event>,
    unread: Arc<AtomicUsize>,
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: mpsc::UnboundedReceiver<Event>,
    unread: Arc<AtomicUsize>,
    /// Told when a paused request may go on, and when the client leaves.
    engine: Arc<Notify>,
}

/// A channel for one request; `engine` wakes the owner task.
pub(crate) fn channel(engine: Arc<Notify>) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let unread = Arc::new(AtomicUsize::new(0));
    (Outbox { sender, unread: Arc::clone(&unread) }, Inbox { receiver, unread, engine })
}

impl Outbox {
    pub(crate) fn send(&self, event: Event) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        // A client that is gone is noticed before the next step, by `is_closed`.
        let _ = self.sender.send(event);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.unread.load(Ordering::Relaxed) >= BACKLOG
    }
}

impl Inbox {
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(_)) = &event
            && self.unread.fetch_sub(1, Ordering::Relaxed) == BACKLOG
        {
            self.engine.notify_one();
        }
        event
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.receiver.close();
        self.engine.notify_one();
    }
}
