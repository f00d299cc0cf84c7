//! Time, randomness and other small facts of the browser.

use std::time::Duration;

use js_sys::{Function, Promise, Reflect};
use reprise_engine::Clock;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(function: &Function, milliseconds: u32) -> JsValue;
}

/// Time since the worker was started: monotonic, a fraction of a millisecond fine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerClock;

impl Clock for WorkerClock {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(performance_now().max(0.0) / 1e3)
    }
}

/// Unix time, seconds.
pub(crate) fn unix_seconds() -> u64 {
    (js_sys::Date::now() / 1e3) as u64
}

/// Seconds that local time is ahead of UTC.
pub(crate) fn utc_offset() -> i64 {
    -(js_sys::Date::new_0().get_timezone_offset() * 60.0) as i64
}

/// Random bits, from the browser's generator.
pub(crate) fn entropy() -> u64 {
    // It fails only where there is no `crypto`, and no such place runs wasm.
    getrandom_04::u64().unwrap_or_default()
}

/// Completes after some milliseconds.
pub(crate) async fn sleep(milliseconds: u32) {
    let timer = Promise::new(&mut |resolve, _| drop(set_timeout(&resolve, milliseconds)));
    // A timer's promise is never rejected.
    let _ = timer.await;
}

/// Bytes of the machine's memory where the browser tells and the machine has few. It rounds, and stops counting at 8 GiB.
pub(crate) fn device_memory() -> Option<u64> {
    const COUNTED: f64 = 8.0;
    let gib = property(&navigator()?, "deviceMemory")?.as_f64()?;
    (gib < COUNTED).then_some((gib * f64::from(1 << 30)) as u64)
}

/// `(used, allowed)` bytes of the origin's storage.
pub(crate) async fn storage_estimate() -> Option<(f64, f64)> {
    let storage = property(&navigator()?, "storage")?;
    let estimate: Function = property(&storage, "estimate")?.dyn_into().ok()?;
    let promise: Promise = estimate.call0(&storage).ok()?.dyn_into().ok()?;
    let estimate = promise.await.ok()?;
    Some((property(&estimate, "usage")?.as_f64()?, property(&estimate, "quota")?.as_f64()?))
}

/// Missing in older Node.
pub(crate) fn navigator() -> Option<JsValue> {
    property(&js_sys::global(), "navigator")
}

/// A member that is there.
pub(crate) fn property(of: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(of, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}
