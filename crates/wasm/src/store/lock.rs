//! One writer among the tabs of an origin, by the Web Locks API.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use js_sys::{Function, Promise};
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use wasm_bindgen::{JsCast, JsValue};

use crate::clock;

/// A tab that reloads meets its former self for a moment.
const PATIENCE: u32 = 1000;

#[wasm_bindgen]
extern "C" {
    type Locks;
    #[wasm_bindgen(method)]
    fn request(this: &Locks, name: &str, held: &JsValue) -> Promise;
}

/// The right to write, asked for once and held until it is released or the worker ends.
pub(crate) struct WriterLock {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Cell<bool>,
    /// Nobody wants it any more.
    released: Cell<bool>,
    /// Resolves the promise that holds the lock.
    release: RefCell<Option<Function>>,
    /// Called when the lock comes late.
    late: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl WriterLock {
    /// Asks for the lock and waits a second for it; `late` is called if it comes after that, when the other tab ends.
    /// Where there are no locks there are no other tabs either.
    pub(crate) async fn request(name: &str, late: impl FnOnce() + 'static) -> Self {
        let shared = Rc::new(Shared::default());
        let (tell, told) = oneshot::channel();
        // The browser keeps it until the lock is there, which may be after us.
        let held = Closure::<dyn FnMut() -> Promise>::new({
            let shared = Rc::clone(&shared);
            let mut tell = Some(tell);
            move || {
                if shared.released.get() {
                    return Promise::resolve(&JsValue::UNDEFINED);
                }
                shared.held.set(true);
                let tell = tell.take();
                if tell.is_none_or(|tell| tell.send(()).is_err())
                    && let Some(late) = shared.late.take()
                {
                    late();
                }
                Promise::new(&mut |resolve, _| drop(shared.release.replace(Some(resolve))))
            }
        })
        .into_js_value();
        match clock::navigator().and_then(|navigator| clock::property(&navigator, "locks")) {
            // The promise is settled by the release, whose result nobody waits for.
            Some(locks) => drop(locks.unchecked_into::<Locks>().request(name, &held)),
            None => shared.held.set(true),
        }
        if !shared.held.get() {
            shared.late.replace(Some(Box::new(late)));
            if let Either::Left(_) = select(told, Box::pin(clock::sleep(PATIENCE))).await {
                shared.late.take();
            }
        }
        Self { shared }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.shared.held.get()
    }

    pub(crate) fn release(&self) {
        self.shared.held.set(false);
        self.shared.released.set(true);
        if let Some(release) = self.shared.release.take() {
            // A promise's own resolver does not throw.
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

impl std::fmt::Debug for WriterLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterLock").field("held", &self.is_held()).finish_non_exhaustive()
    }
}
