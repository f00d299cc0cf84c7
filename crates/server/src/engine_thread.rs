//! From a model file to a running engine on a thread of its own.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu};
use reprise_engine::{Engine, EngineConfig, EngineHandle};
use reprise_gguf::{Gguf, TokenId};
use reprise_model::{
    Forward, LoadOptions, LoadProgress, MemoryNeed, Output, RopeOverrides, RopeScaling, Sequence, StepOutput,
};
use reprise_text::{ChatTemplate, Text, Tokenizer};

use crate::cli::{Cli, ModelArgs, RopeScalingArg};
use crate::clock::SystemClock;
use crate::source::MappedFile;
use crate::store::DirStore;
use crate::{memory, model_file, sizes};

/// Loads that take longer than this say how far they are.
const QUIET_LOAD: Duration = Duration::from_secs(2);

/// A loaded model behind its handle, and the thread that runs it.
pub(crate) struct Running {
    /// Talks to the engine.
    pub(crate) handle: EngineHandle,
    /// Ends when the engine is drained.
    pub(crate) thread: JoinHandle<()>,
    /// The model's file.
    pub(crate) path: String,
}

/// Finds, checks and loads the model, then starts the engine. Blocks until the model is ready to serve.
pub(crate) fn start(cli: &Cli, store: Option<DirStore>) -> Result<Running> {
    let begin = Instant::now();
    let path = model_file::locate(&cli.model)?;
    let source = MappedFile::open(&path)?;
    let gguf =
        block_on(Gguf::open(&source)).with_context(|| format!("cannot load model '{}'", path.display()))?;
    let text = text(&gguf, &cli.model)?;

    let cpu = Cpu::new(threads(cli.compute.threads));
    let mut options =
        LoadOptions { rope: rope(&cli.model), progress: Some(progress()), ..LoadOptions::default() };
    let config = plan(cli, &gguf, &mut options)?;
    let mut model = block_on(reprise_model::load(&source, &gguf, cpu, options))
        .with_context(|| format!("cannot load model '{}'", path.display()))?;
    if !cli.compute.no_warmup {
        warm_up(&mut model)?;
    }
    let (engine, handle) = Engine::new(model, text, store, SystemClock::start(), config);
    announce(&handle, &path, begin.elapsed());
    let thread = thread::Builder::new().name("engine".into()).spawn(move || block_on(engine.run()))?;
    Ok(Running { handle, thread, path: path.display().to_string() })
}

fn rope(arguments: &ModelArgs) -> RopeOverrides {
    RopeOverrides {
        freq_base: arguments.rope_freq_base,
        freq_scale: arguments.rope_freq_scale.or(arguments.rope_scale.map(f32::recip)),
        scaling: arguments.rope_scaling.map(|scaling| match scaling {
            RopeScalingArg::None => RopeScaling::None,
            RopeScalingArg::Linear => RopeScaling::Linear,
        }),
    }
}

/// Sizes of the engine, checked against the machine's memory, with the KV blocks entered into `options`.
fn plan(cli: &Cli, gguf: &Gguf, options: &mut LoadOptions) -> Result<EngineConfig> {
    let train = gguf.metadata.u32(&format!("{}.context_length", gguf.metadata.architecture()?))?;
    options.blocks = 1;
    let block_bytes = reprise_model::memory_needed(gguf, options)?.kv;
    let mut config = sizes::engine_config(&cli.context, &cli.cache, train, usize::try_from(block_bytes)?)?;
    if cli.context.ctx_size > train {
        tracing::warn!(
            "--ctx-size {} is more than the {train} tokens the model was trained on: slots get {} tokens each",
            cli.context.ctx_size,
            config.slot_context
        );
    }
    options.batch = config.micro_batch as usize;
    options.logit_rows = config.slots as usize;

    let ram_blocks = std::mem::take(&mut config.ram_blocks);
    options.blocks = config.kv_blocks();
    let need = reprise_model::memory_needed(gguf, options)?;
    let available = memory::available();
    if !cli.context.no_memory_check {
        memory::check(&need, available)?;
    }
    config.ram_blocks = affordable_blocks(ram_blocks, block_bytes, &need, available);
    options.blocks = config.kv_blocks();
    Ok(config)
}

/// Blocks of the RAM cache that leave half of the memory that is free beside the model to the rest of the machine.
fn affordable_blocks(wanted: u32, block_bytes: u64, need: &MemoryNeed, available: Option<u64>) -> u32 {
    let Some(available) = available else { return wanted };
    let blocks = available.saturating_sub(need.total()) / 2 / block_bytes.max(1);
    let affordable = u32::try_from(blocks).unwrap_or(u32::MAX).min(wanted);
    if affordable < wanted {
        let tokens = u64::from(affordable) * BLOCK_TOKENS as u64;
        tracing::info!(
            "the prompt cache is limited to {tokens} tokens, half of the memory that is free beside the model"
        );
    }
    affordable
}

/// Runs the model once, so that the first request does not wait for pages of the file. Its KV goes to a block that no
/// slot holds yet.
fn warm_up(model: &mut impl Forward) -> Result<()> {
    let token = Sequence { tokens: &[TokenId(0)], start: 0, blocks: &[0], output: Output::LastLogits };
    block_on(model.forward(&[token], &mut StepOutput::default())).context("the model does not run")
}

fn text(gguf: &Gguf, arguments: &ModelArgs) -> Result<Text> {
    let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
    let given = match &arguments.chat_template_file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("cannot read chat template '{}'", file.display()))?,
        ),
        None => arguments.chat_template.clone(),
    };
    let template = match given {
        Some(source) => ChatTemplate::new(&source, tokenizer.vocab())?,
        None => ChatTemplate::from_metadata(&gguf.metadata, tokenizer.vocab())?,
    };
    Ok(Text { tokenizer, template })
}

fn threads(asked: i32) -> usize {
    match usize::try_from(asked) {
        Ok(threads) if threads > 0 => threads,
        _ => thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Reports each further tenth of a load that takes long.
fn progress() -> Box<dyn FnMut(LoadProgress)> {
    let (begin, mut tenths) = (Instant::now(), 0);
    Box::new(move |progress| {
        let done = progress.loaded * 10 / progress.total.max(1);
        if done > tenths && begin.elapsed() > QUIET_LOAD {
            tracing::info!("loading the model: {}%", done * 10);
        }
        tenths = tenths.max(done);
    })
}

fn announce(handle: &EngineHandle, path: &Path, took: Duration) {
    let (model, config) = (handle.model(), handle.config());
    tracing::info!(
        "model: {} ({}, {}, {} parameters, {} MiB), loaded in {:.2} s",
        path.display(),
        model.architecture,
        model.file_type,
        model.parameters,
        model.bytes >> 20,
        took.as_secs_f64()
    );
    tracing::info!(
        "slots: {} with {} tokens of context each{}; prompt cache: {} tokens",
        config.slots,
        config.slot_context,
        if config.unified { ", sharing one pool" } else { "" },
        u64::from(config.ram_blocks) * BLOCK_TOKENS as u64
    );
    tracing::info!("backend: {}", model.backend);
}
