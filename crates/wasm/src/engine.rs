//! The exported class: what the package's worker calls.

use std::rc::Rc;

use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Response;

use crate::error::{Failure, Kind};
use crate::host::Host;
use crate::http::{self, WireRequest};
use crate::info::EngineInfo;
use crate::load::Blueprint;
use crate::options::LoadOptions;
use crate::session::Session;

/// A loaded model that answers requests.
#[wasm_bindgen]
pub struct Engine {
    session: Rc<Session>,
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model and brings its slots back.
    ///
    /// # Errors
    /// A `RepriseError` that says what is wrong with the options, the file or the machine.
    pub async fn load(options: JsValue, host: Host) -> Result<Engine, JsValue> {
        let options = LoadOptions::read(&options)?;
        let session = Session::start(Blueprint::new(options, host).await).await?;
        Ok(Self { session })
    }

    /// Answers a request. Aborting its signal, or cancelling the answer's body, cancels what it does.
    ///
    /// # Errors
    /// The signal's reason when it was aborted; a `RepriseError` when the request is none.
    pub async fn fetch(&self, request: WireRequest) -> Result<Response, JsValue> {
        let (router, keeper) = self.session.router();
        let ending = keeper.filter(|_| !request.only_reads()).map(http::Ending);
        http::answer(router, request, ending).await
    }

    /// What runs: `{backend, backendName, backendReason, model, slots, context, vocab, counters?}`.
    ///
    /// # Errors
    /// None that is known.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        to_js(&self.session.look(EngineInfo::new))
    }

    /// Writes the images of all idle slots that have changed.
    pub async fn persist(&self) {
        self.session.persist().await;
    }

    /// All stored images: `[{name, bytes, tokens, automatic, created}]`.
    ///
    /// # Errors
    /// A `RepriseError` when the store cannot be read.
    pub async fn images(&self) -> Result<JsValue, JsValue> {
        let images = match &self.session.blueprint.store {
            Some(store) => {
                store.images().await.map_err(|error| Failure::new(Kind::Storage, error.to_string()))?
            }
            None => Vec::new(),
        };
        to_js(&images)
    }

    /// Destroys the GPU device, as a driver does when it crashes: for tests of the recovery.
    pub fn lose_device(&self) {
        self.session.look(|_, gpu, _, _| gpu.map(|gpu| gpu.lose()));
    }

    /// Refuses new requests, waits for those that run, writes images and ends the engine.
    pub async fn dispose(&self) {
        self.session.dispose().await;
    }
}

/// Missing values are `null`, maps are objects.
pub(crate) fn to_js<T: Serialize>(value: &T) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|error| Failure::new(Kind::Internal, error.to_string()).into())
}
