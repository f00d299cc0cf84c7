//! A pause that gives the executor a turn.

use std::future::poll_fn;
use std::task::Poll;

/// Goes to the end of the executor's queue once: a browser worker answers messages between two steps, and a test sees
/// each step by itself.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
