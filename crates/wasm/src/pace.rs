//! Runs the engine from the worker's event loop.
//!
//! `Engine::run` wakes itself after every step. Polled as a microtask it would never let a message in, so a future here
//! that wakes itself while it is polled is polled again by a macrotask: messages, timers and aborts come between two
//! steps. Any other wake goes through at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::MessageChannel;

/// A future that leaves the event loop a turn between two polls.
pub(crate) struct Paced<F> {
    inner: Pin<Box<F>>,
    wakes: Arc<Wakes>,
    waker: Waker,
    turn: Turn,
}

impl<F: Future> Paced<F> {
    /// # Errors
    /// When the host has no `MessageChannel`.
    pub(crate) fn new(inner: F) -> Result<Self, JsValue> {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let turn = Turn::new(Arc::clone(&wakes))?;
        Ok(Self { inner: Box::pin(inner), wakes, waker, turn })
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.wakes.outer.register(context.waker());
        this.wakes.again.store(false, Ordering::Relaxed);
        this.wakes.polling.store(true, Ordering::Relaxed);
        let polled = this.inner.as_mut().poll(&mut Context::from_waker(&this.waker));
        this.wakes.polling.store(false, Ordering::Relaxed);
        if polled.is_pending() && this.wakes.again.load(Ordering::Relaxed) {
            this.turn.take();
        }
        polled
    }
}

/// Wakes of a [`Paced`] future; those that come while it is polled are kept for a turn.
#[derive(Default)]
struct Wakes {
    outer: AtomicWaker,
    polling: AtomicBool,
    again: AtomicBool,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.polling.load(Ordering::Relaxed) {
            self.again.store(true, Ordering::Relaxed);
        } else {
            self.outer.wake();
        }
    }
}

/// A message to ourselves: the shortest macrotask there is, and never throttled as timers are.
struct Turn {
    channel: MessageChannel,
    /// Our end of it where it can keep a process alive: it must while a turn is under way, and not while we wait.
    node: Option<NodePort>,
    _arrived: Closure<dyn FnMut()>,
}

impl Turn {
    fn new(wakes: Arc<Wakes>) -> Result<Self, JsValue> {
        let channel = MessageChannel::new()?;
        let port: NodePort = channel.port1().unchecked_into();
        let node = port.unref_function().is_some().then_some(port);
        let arrived = Closure::new({
            let node = node.clone();
            move || {
                if let Some(port) = &node {
                    port.unref();
                }
                wakes.outer.wake();
            }
        });
        channel.port1().set_onmessage(Some(arrived.as_ref().unchecked_ref()));
        if let Some(port) = &node {
            port.unref();
        }
        Ok(Self { channel, node, _arrived: arrived })
    }

    fn take(&self) {
        if let Some(port) = &self.node {
            port.keep();
        }
        // Posting an empty message to our own port does not fail.
        let _ = self.channel.port2().post_message(&JsValue::UNDEFINED);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.channel.port1().set_onmessage(None);
        self.channel.port1().close();
    }
}

#[wasm_bindgen]
extern "C" {
    /// A port of Node.
    #[derive(Clone)]
    type NodePort;
    #[wasm_bindgen(method, getter, js_name = unref)]
    fn unref_function(this: &NodePort) -> Option<js_sys::Function>;
    #[wasm_bindgen(method)]
    fn unref(this: &NodePort);
    #[wasm_bindgen(method, js_name = ref)]
    fn keep(this: &NodePort);
}
