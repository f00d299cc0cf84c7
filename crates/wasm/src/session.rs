//! An engine from load to disposal, through the loss of its device.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use axum::Router;
use futures::channel::oneshot;
use futures::future::{Either, select};
use reprise_api::{ApiConfig, ApiError};
use reprise_engine::{Ended, EngineError, EngineHandle};
use reprise_gpu::GpuHandle;
use wasm_bindgen_futures::spawn_local;

use crate::clock;
use crate::error::{Failure, Kind};
use crate::events::HostEvent;
use crate::keeper::Keeper;
use crate::load::{Blueprint, Started};
use crate::pace::Paced;
use crate::settings;

/// How often, and how many times, a session that ends asks whether its slots are idle: half a minute in all.
const ENDING: (u32, u32) = (20, 1500);

type Run = Paced<Pin<Box<dyn Future<Output = Ended>>>>;

/// What the exported class stands for.
pub(crate) struct Session {
    pub(crate) blueprint: Blueprint,
    api: ApiConfig,
    live: RefCell<Live>,
    /// Ends what runs; taken by the first disposal.
    stop: Cell<Option<oneshot::Sender<()>>>,
}

/// The engine of the moment.
struct Live {
    router: Router,
    handle: EngineHandle,
    gpu: Option<GpuHandle>,
    backend: &'static str,
    reason: String,
    keeper: Option<Rc<Keeper>>,
}

impl Session {
    /// Loads the model, brings slots back and lets the engine run.
    pub(crate) async fn start(blueprint: Blueprint) -> Result<Rc<Self>, Failure> {
        let started = blueprint.start().await?;
        let api = settings::api_config(&blueprint.options, &started.handle.text().tokenizer)?;
        let (live, run) = Live::new(&blueprint, &api, started)?;
        let (stop, stopped) = oneshot::channel();
        let keeper = live.keeper.clone();
        let session = Rc::new(Self { blueprint, api, live: RefCell::new(live), stop: Cell::new(Some(stop)) });
        spawn_local(Rc::clone(&session).supervise(run, stopped));
        if let Some(keeper) = keeper {
            let slots = keeper.restore().await;
            if !slots.is_empty() {
                HostEvent::Restored { slots }.tell(&session.blueprint.host);
            }
        }
        Ok(session)
    }

    /// Who answers a request now, and who is to know when it has ended.
    pub(crate) fn router(&self) -> (Router, Option<Rc<Keeper>>) {
        let live = self.live.borrow();
        (live.router.clone(), live.keeper.clone())
    }

    /// Calls `look` with the engine of the moment: its handle, device, backend and the reason for it.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&EngineHandle, Option<&GpuHandle>, &'static str, &str) -> T,
    ) -> T {
        let live = self.live.borrow();
        look(&live.handle, live.gpu.as_ref(), live.backend, &live.reason)
    }

    /// Writes the image of every idle slot that has changed.
    pub(crate) async fn persist(&self) {
        let keeper = self.live.borrow().keeper.clone();
        if let Some(keeper) = keeper {
            keeper.save_changed().await;
        }
    }

    /// Refuses new requests, waits for those that run, writes images and ends the engine.
    pub(crate) async fn dispose(&self) {
        let Some(stop) = self.stop.take() else { return };
        self.live.borrow_mut().router = Router::new().fallback(async || ApiError::from(EngineError::Closed));
        let handle = self.live.borrow().handle.clone();
        let (pause, times) = ENDING;
        for _ in 0..times {
            match handle.slots().await {
                Ok(slots) if slots.iter().any(|slot| slot.processing) => clock::sleep(pause).await,
                _ => break,
            }
        }
        self.persist().await;
        // Its last act is to store the prompt cache; a handle that it no longer answers is told so.
        handle.drain();
        let ended = async { while handle.slots().await.is_ok() {} };
        select(pin!(ended), pin!(clock::sleep(pause * times))).await;
        // A supervisor that is gone has ended already.
        let _ = stop.send(());
        if let Some(store) = &self.blueprint.store {
            store.close();
        }
    }

    /// From now on requests are told that the model is loading.
    fn close(&self) {
        self.live.borrow_mut().router = reprise_api::loading_router(self.api.clone());
    }

    /// Polls the engine until the session is disposed of; loads it again when its device is lost.
    async fn supervise(self: Rc<Self>, mut run: Run, mut stopped: oneshot::Receiver<()>) {
        loop {
            match select(run, &mut stopped).await {
                Either::Left((Ended::DeviceLost, _)) => {}
                Either::Left((Ended::Drained, _)) | Either::Right(_) => return,
            }
            let router = self.live.borrow().router.clone();
            self.close();
            let host = &self.blueprint.host;
            HostEvent::DeviceLost { message: "the GPU device was lost; the model is loaded again".into() }
                .tell(host);
            match self.reload().await {
                Ok(next) => run = next,
                Err(failure) => {
                    // The old router tells every request that its engine has ended.
                    self.live.borrow_mut().router = router;
                    HostEvent::DeviceGone { message: failure.to_string() }.tell(host);
                    return;
                }
            }
        }
    }

    async fn reload(self: &Rc<Self>) -> Result<Run, Failure> {
        let started = self.blueprint.start().await?;
        let (live, run) = Live::new(&self.blueprint, &self.api, started)?;
        let keeper = live.keeper.clone();
        // Requests wait in the engine's queue behind the slots that come back.
        self.live.replace(live);
        let host = self.blueprint.host.clone();
        spawn_local(async move {
            let slots = match keeper {
                Some(keeper) => keeper.restore().await,
                None => Vec::new(),
            };
            HostEvent::DeviceRestored { slots }.tell(&host);
        });
        Ok(run)
    }
}

impl Live {
    fn new(blueprint: &Blueprint, api: &ApiConfig, started: Started) -> Result<(Self, Run), Failure> {
        let backend = started.backend();
        let Started { handle, run, gpu, reason } = started;
        let name = handle.model().backend.clone();
        HostEvent::Backend { backend, name, reason: reason.clone() }.tell(&blueprint.host);
        let run = Paced::new(run).map_err(|_| Failure::new(Kind::Internal, "there is no MessageChannel"))?;
        let keeper = blueprint.automatic().then(|| blueprint.store.clone()).flatten();
        let keeper = keeper.map(|store| Rc::new(Keeper::new(handle.clone(), store, blueprint.host.clone())));
        let router = reprise_api::router(handle.clone(), api.clone());
        Ok((Self { router, handle, gpu, backend, reason, keeper }, run))
    }
}
