//! What the page's TypeScript gives the engine; every member but `source` may be missing.

use js_sys::{Function, JsString, Promise, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::error::thrown;

#[wasm_bindgen]
extern "C" {
    /// The worker around the engine.
    #[derive(Debug, Clone)]
    pub type Host;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn source(this: &Host) -> FileHandle;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn store(this: &Host) -> Option<Files>;
    #[wasm_bindgen(method, getter, js_name = progress)]
    fn progress_function(this: &Host) -> Option<Function>;
    #[wasm_bindgen(method, getter, js_name = event)]
    fn event_function(this: &Host) -> Option<Function>;
    #[wasm_bindgen(method, getter, js_name = spawn)]
    fn spawn_function(this: &Host) -> Option<Function>;

    /// The model's file: an OPFS handle, a `Blob`, a file of Node.
    #[derive(Debug, Clone)]
    pub type FileHandle;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn size(this: &FileHandle) -> f64;
    /// The bytes, or a promise of them.
    #[wasm_bindgen(method, catch)]
    pub(crate) fn read(this: &FileHandle, offset: f64, length: f64) -> Result<JsValue, JsValue>;

    /// Slot images where there is no IndexedDB.
    #[derive(Debug, Clone)]
    pub type Files;
    #[wasm_bindgen(method, catch)]
    pub(crate) fn put(this: &Files, name: &str, parts: Vec<Uint8Array>) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(crate) fn get(this: &Files, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(crate) fn remove(this: &Files, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(crate) fn list(this: &Files) -> Result<JsValue, JsValue>;
}

impl Host {
    /// Tells how many bytes of the weights the backend has.
    pub(crate) fn progress(&self, loaded: u64, total: u64) {
        if let Some(function) = self.progress_function() {
            // What the page does with it is the page's business.
            let _ = function.call2(self, &(loaded as f64).into(), &(total as f64).into());
        }
    }

    /// Tells the page what happened.
    pub(crate) fn event(&self, event: &JsValue) {
        if let Some(function) = self.event_function() {
            // As above.
            let _ = function.call1(self, event);
        }
    }

    /// Starts a worker that calls `run_helper(number)`; says whether it could.
    pub(crate) fn spawn(&self, number: u32) -> bool {
        self.spawn_function().is_some_and(|function| function.call1(self, &number.into()).is_ok())
    }
}

/// Waits for a value that may be a promise.
///
/// # Errors
/// What was thrown, as text.
pub(crate) async fn settled(value: Result<JsValue, JsValue>) -> Result<JsValue, String> {
    let value = value.map_err(|error| thrown(&error))?;
    match value.dyn_into::<Promise>() {
        Ok(promise) => promise.await.map_err(|error| thrown(&error)),
        Err(value) => Ok(value),
    }
}

/// Names out of an array.
pub(crate) fn strings(value: JsValue) -> Vec<String> {
    let array = js_sys::Array::from(&value);
    array.iter().filter_map(|name| name.dyn_into::<JsString>().ok()).map(String::from).collect()
}
