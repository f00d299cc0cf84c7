//! From a model file to an engine that can be polled.

use std::pin::Pin;

use reprise_compute::{BLOCK_TOKENS, Backend};
use reprise_engine::{Ended, Engine, EngineConfig, EngineHandle, Stores};
use reprise_gguf::{Gguf, TokenId};
use reprise_gpu::GpuHandle;
use reprise_model::{Forward, LoadOptions as ModelOptions, LoadProgress, Output, Sequence, StepOutput};
use reprise_text::{ChatTemplate, Text, Tokenizer};

use crate::backend::{self, Opened};
use crate::clock::WorkerClock;
use crate::error::{Failure, Kind};
use crate::events::HostEvent;
use crate::host::Host;
use crate::memory::Budget;
use crate::options::LoadOptions;
use crate::settings;
use crate::source::JsSource;
use crate::store::{IdbBlocks, Store};

/// All that an engine is made of, kept so that it can be made again.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub options: LoadOptions,
    pub host: Host,
    pub source: JsSource,
    pub store: Option<Store>,
    /// What of the prompt cache outlives the page.
    blocks: Option<IdbBlocks>,
}

/// An engine and what talks to it.
pub(crate) struct Started {
    pub handle: EngineHandle,
    /// Completes when the engine has ended; it runs while this is polled.
    pub run: Pin<Box<dyn Future<Output = Ended>>>,
    /// The device, where there is one.
    pub gpu: Option<GpuHandle>,
    /// Why this backend.
    pub reason: String,
}

impl Started {
    /// The backend in the package's words.
    pub(crate) fn backend(&self) -> &'static str {
        if self.gpu.is_some() { "webgpu" } else { "wasm" }
    }
}

impl Blueprint {
    /// Opens the store and the file. Without a store the engine works; only its slots cannot be kept.
    pub(crate) async fn new(options: LoadOptions, host: Host) -> Self {
        let source = JsSource::new(host.source());
        let store = match host.store() {
            Some(files) => Ok(Store::files(files)),
            None => {
                let (host, automatic) = (host.clone(), options.persist.automatic != Some(false));
                let late = move || {
                    if automatic {
                        HostEvent::Persistence { enabled: true, reason: String::new() }.tell(&host);
                    }
                };
                Store::indexed_db(&options.persist.namespace, late).await
            }
        };
        let mut blueprint = match store {
            Ok(store) => Self { options, host, source, store: Some(store), blocks: None },
            Err(failure) => {
                let reason = failure.to_string();
                tracing::warn!("{reason}");
                HostEvent::Persistence { enabled: false, reason }.tell(&host);
                return Self { options, host, source, store: None, blocks: None };
            }
        };
        blueprint.tell_persistence();
        if let Some(budget) = settings::cache_disk(&blueprint.options, blueprint.automatic()) {
            match IdbBlocks::open(&blueprint.options.persist.namespace, budget).await {
                Ok(blocks) => blueprint.blocks = Some(blocks),
                Err(error) => tracing::warn!(%error, "the prompt cache ends with this engine"),
            }
        }
        blueprint
    }

    /// Whether slots are stored by themselves: as asked, or where the browser has the images.
    pub(crate) fn automatic(&self) -> bool {
        self.options.persist.automatic.unwrap_or(matches!(self.store, Some(Store::Idb(_))))
    }

    fn tell_persistence(&self) {
        let read_only = self.store.as_ref().and_then(Store::read_only);
        let reason = match read_only {
            _ if !self.automatic() => "it was not asked for",
            Some(reason) => reason,
            None => "",
        };
        HostEvent::Persistence { enabled: reason.is_empty(), reason: reason.to_owned() }.tell(&self.host);
    }

    /// Opens a backend, loads the model into it and builds the engine around it.
    ///
    /// # Errors
    /// [`Failure`] that says what is wrong with the file, the options or the machine.
    pub(crate) async fn start(&self) -> Result<Started, Failure> {
        let gguf = Gguf::open(&self.source).await?;
        let (opened, reason) = backend::open(&self.options, &self.host, &self.source, &gguf).await?;
        match opened {
            Opened::Gpu(gpu) => {
                let device = gpu.handle();
                let (handle, run) = self.build(gguf, *gpu, Budget::Device).await?;
                Ok(Started { handle, run, gpu: Some(device), reason })
            }
            Opened::Cpu(cpu) => {
                let (handle, run) = self.build(gguf, cpu, Budget::Module).await?;
                Ok(Started { handle, run, gpu: None, reason })
            }
        }
    }

    async fn build<B: Backend + 'static>(
        &self,
        gguf: Gguf,
        backend: B,
        budget: Budget,
    ) -> Result<(EngineHandle, Pin<Box<dyn Future<Output = Ended>>>), Failure> {
        let text = text(&gguf, self.options.chat_template.as_deref())?;
        let host = self.host.clone();
        let progress = move |progress: LoadProgress| host.progress(progress.loaded, progress.total);
        let mut options = ModelOptions {
            rope: settings::rope(&self.options),
            progress: Some(Box::new(progress)),
            ..ModelOptions::default()
        };
        let config = self.plan(&gguf, budget, &mut options)?;
        let mut model = reprise_model::load(&self.source, &gguf, backend, options).await?;
        drop(gguf);
        let piece = if budget == Budget::Device { BLOCK_TOKENS.min(config.micro_batch as usize) } else { 1 };
        warm_up(&mut model, piece).await?;
        let stores = Stores { slots: self.store.clone(), blocks: self.blocks.clone() };
        let (engine, handle) = Engine::new(model, text, stores, WorkerClock, config);
        Ok((handle, Box::pin(async { engine.run().await })))
    }

    /// Sizes of the engine, checked against the memory.
    fn plan(&self, gguf: &Gguf, budget: Budget, options: &mut ModelOptions) -> Result<EngineConfig, Failure> {
        let sizing = settings::sizing(&self.options, budget);
        let plan = sizing.plan(gguf, options).map_err(|error| match error {
            reprise_engine::SizingError::Model(error) => error.into(),
            error => Failure::new(Kind::Options, error.to_string()),
        })?;
        let available = budget.available(self.options.max_memory);
        budget.check(&plan.need, available)?;
        Ok(plan.settle(available, options))
    }
}

fn text(gguf: &Gguf, template: Option<&str>) -> Result<Text, Failure> {
    let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
    let template = match template {
        Some(source) => ChatTemplate::new(source, tokenizer.vocab())?,
        None => ChatTemplate::from_metadata(&gguf.metadata, tokenizer.vocab())?,
    };
    Ok(Text { tokenizer, template })
}

/// Runs the model on a piece of a prompt and on one token: a device that cannot run it says so now, and the shaders of both
/// are compiled before the first request. The KV goes to a block that no slot holds yet.
async fn warm_up(model: &mut impl Forward, piece: usize) -> Result<(), Failure> {
    // As many candidates as the usual samplers ask for.
    const OUTPUT: Output = Output::Top(40);
    let tokens = [TokenId(0); BLOCK_TOKENS];
    for length in [piece, 1] {
        let sequence = Sequence { tokens: &tokens[..length], start: 0, blocks: &[0], output: OUTPUT };
        model.forward(&[sequence], &mut StepOutput::default()).await?;
    }
    Ok(())
}
