//! Drives an engine by hand: one poll is one forward pass.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use reprise_engine::sample::Sampling;
use reprise_engine::testing::{BOS, Controls, ScriptedModel, byte, text};
use reprise_engine::{
    Ended, Engine, EngineConfig, EngineError, EngineHandle, Event, Finished, Generate, Generation, Limits,
    MemoryBlocks, SlotStore, StoreError, Stores,
};
use reprise_gguf::TokenId;
use reprise_kv::Ppm;

/// An engine on a scripted model, and what a test needs to see of it.
pub(crate) struct Bench {
    pub(crate) handle: EngineHandle,
    pub(crate) controls: Controls,
    run: Pin<Box<dyn Future<Output = Ended>>>,
    woken: Arc<Woken>,
    pub(crate) ended: Option<Ended>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `slots` slots of `context` tokens each, with a RAM tier; `-b 64 -ub 32`.
pub(crate) fn config(slots: u32, context: u32) -> EngineConfig {
    EngineConfig {
        slots,
        slot_context: context,
        pool_tokens: slots * context,
        unified: false,
        similarity: Ppm(100_000),
        batch: 64,
        micro_batch: 32,
        continuous_batching: true,
        context_shift: false,
        speculation: None,
        ram_blocks: 64,
        cache_idle_slots: true,
        max_image: 1 << 20,
        state_key: None,
    }
}

impl Bench {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch);
        Self::with(model, config, TestStore::default())
    }

    /// An engine whose model answers a prompt of `prompt` tokens with `answer`.
    pub(crate) fn saying(config: EngineConfig, prompt: usize, answer: Vec<TokenId>) -> Self {
        let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch).saying(prompt, answer);
        Self::with(model, config, TestStore::default())
    }

    pub(crate) fn with(model: ScriptedModel, config: EngineConfig, store: TestStore) -> Self {
        Self::on(model, config, Stores { slots: Some(store), blocks: None })
    }

    /// With a store of blocks.
    pub(crate) fn on(
        model: ScriptedModel,
        config: EngineConfig,
        stores: Stores<TestStore, Rc<MemoryBlocks>>,
    ) -> Self {
        let controls = model.controls();
        let clock = controls.clock().clone();
        let (engine, handle) = Engine::new(model, text(), stores, clock, config);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        Self { handle, controls, run: Box::pin(engine.run()), woken, ended: None }
    }

    /// Polls the engine once: it takes its commands and runs one forward pass. False when it waits for commands.
    pub(crate) fn step(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        if let Poll::Ready(ended) = self.run.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.ended = Some(ended);
        }
        self.ended.is_none() && self.woken.0.load(Ordering::Relaxed)
    }

    pub(crate) fn run_passes(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Lets the engine run until it has nothing to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Lets the engine run until it has answered.
    pub(crate) fn ask<T>(&mut self, question: impl Future<Output = T>) -> T {
        let mut question = pin!(question);
        for _ in 0..100_000 {
            if let Poll::Ready(answer) = question.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer;
            }
            self.step();
        }
        panic!("no answer");
    }

    /// Runs a request to its end, by itself.
    pub(crate) fn complete(&mut self, request: Generate) -> Finished {
        self.try_complete(request).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_complete(&mut self, request: Generate) -> Result<Finished, EngineError> {
        let mut generation = self.handle.generate(request);
        self.settle();
        result(&mut generation).expect("it has ended")
    }

    /// `(slot, cache_n, prompt_n)` of a request run by itself.
    pub(crate) fn reuse(&mut self, request: Generate) -> (u32, u32, u32) {
        let finished = self.complete(request);
        (finished.slot, finished.timings.cached, finished.timings.prompt)
    }

    /// Tokens in each slot.
    pub(crate) fn slot_tokens(&mut self) -> Vec<u32> {
        let handle = self.handle.clone();
        self.ask(handle.slots()).expect("the engine runs").iter().map(|slot| slot.tokens).collect()
    }

    pub(crate) fn erase(&mut self, slot: u32) -> u32 {
        let handle = self.handle.clone();
        self.ask(handle.erase(slot)).expect("the engine runs")
    }
}

/// What has come so far.
pub(crate) fn events(generation: &mut Generation) -> Vec<Event> {
    std::iter::from_fn(|| generation.next().now_or_never().flatten()).collect()
}

/// How a request with one copy has ended, if it has.
pub(crate) fn result(generation: &mut Generation) -> Option<Result<Finished, EngineError>> {
    events(generation).into_iter().find_map(|event| match event {
        Event::Finished(finished) => Some(Ok(*finished)),
        Event::Failed(error) => Some(Err(error)),
        _ => None,
    })
}

/// The slots that a request was started in, copy by copy, so far.
pub(crate) fn started(events: &[Event]) -> Vec<u32> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Started(placed) => Some(placed.slot),
            _ => None,
        })
        .collect()
}

/// How many tokens were sampled so far.
pub(crate) fn steps(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Step(_))).count()
}

/// BOS and then `length - 1` tokens; prompts of different `seed`s have nothing else in common.
pub(crate) fn prompt(seed: u32, length: usize) -> Vec<TokenId> {
    let tail = (1..length as u32)
        .map(|i| byte((seed.wrapping_mul(31) ^ (i.wrapping_mul(7 + 2 * seed)) ^ 0x80) as u8));
    // The second token alone tells prompts apart.
    let mut tokens: Vec<TokenId> = std::iter::once(BOS).chain(tail).collect();
    if let Some(second) = tokens.get_mut(1) {
        *second = byte(seed as u8);
    }
    tokens
}

/// A greedy request for four tokens.
pub(crate) fn request(prompt: Vec<TokenId>) -> Generate {
    Generate {
        prompt,
        copies: 1,
        pin: None,
        cache_prompt: true,
        reuse_chunk: 0,
        cache_store: false,
        limits: Limits { predict: Some(4), keep: 0, discard: 0, indent: 0, time: None, ignore_eos: true },
        stops: Vec::new(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        probabilities: None,
        special: false,
        progress: false,
        stream: true,
        timings_per_token: false,
        heartbeat: None,
    }
}

pub(crate) trait Also: Sized {
    /// Changes a value in an expression.
    fn also(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl<T> Also for T {}

/// Slot images in memory, on a disk that can be full. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestStore {
    pub(crate) images: Rc<RefCell<BTreeMap<String, Bytes>>>,
    pub(crate) full: Rc<Cell<bool>>,
}

impl TestStore {
    /// Changes a stored image.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut images = self.images.borrow_mut();
        let image = images.get_mut(name).expect("it was saved");
        let mut bytes = image.to_vec();
        change(&mut bytes);
        *image = bytes.into();
    }
}

impl SlotStore for TestStore {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<u64, StoreError> {
        if self.full.get() {
            return Err(StoreError::Failed("no space left on device".into()));
        }
        let image = Bytes::from(parts.concat());
        let length = image.len() as u64;
        self.images.borrow_mut().insert(name.to_owned(), image);
        Ok(length)
    }

    async fn fetch(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let image = self.images.borrow().get(name).cloned().ok_or(StoreError::Missing)?;
        let found = image.len() as u64;
        if found > limit { Err(StoreError::TooLarge { found, limit }) } else { Ok(image) }
    }

    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.images.borrow_mut().remove(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.images.borrow().keys().cloned().collect())
    }
}
