//! From a model file to a running engine on a thread of its own.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu, HelperThread};
use reprise_engine::{Ended, Engine, EngineConfig, EngineHandle, Sizing, StateKey, Stores};
use reprise_gguf::{Gguf, TokenId};
use reprise_model::{
    Forward, LoadOptions, LoadProgress, Output, RopeOverrides, RopeScaling, Sequence, StepOutput,
};
use reprise_text::{ChatTemplate, Text, Tokenizer};

use crate::affinity::Affinity;
use crate::blocks::Blocks;
use crate::cli::{CacheArgs, Cli, ContextArgs, ModelArgs, RopeScalingArg, SpeculationArgs};
use crate::clock::SystemClock;
use crate::source::MappedFile;
use crate::store::DirStore;
use crate::{memory, model_file};

/// Loads that take longer than this say how far they are.
const QUIET_LOAD: Duration = Duration::from_secs(2);

/// A loaded model behind its handle, and the thread that runs it.
pub(crate) struct Running {
    /// Talks to the engine.
    pub(crate) handle: EngineHandle,
    /// Ends when the engine is drained.
    pub(crate) thread: JoinHandle<Ended>,
    /// The model's file.
    pub(crate) path: String,
}

/// Finds, checks and loads the model, then starts the engine. Blocks until the model is ready to serve.
pub(crate) fn start(cli: &Cli, stores: Stores<DirStore, Blocks>, key: Option<StateKey>) -> Result<Running> {
    let begin = Instant::now();
    let path = model_file::locate(&cli.model)?;
    let source = MappedFile::open(&path)?;
    let gguf =
        block_on(Gguf::open(&source)).with_context(|| format!("cannot load model '{}'", path.display()))?;
    let text = text(&gguf, &cli.model)?;

    let decode = threads(cli.compute.threads);
    let batch = usize::try_from(cli.compute.threads_batch).ok().filter(|&count| count > 0).unwrap_or(decode);
    let all = decode.max(batch);
    let affinity = Affinity::new(&cli.compute)?;
    let cpu = Cpu::with_helpers(all, helpers(&affinity)).with_limits(decode, batch);
    let cpu = match std::env::var("REPRISE_ISA") {
        Ok(name) => cpu.with_instructions(&name).context("REPRISE_ISA")?,
        Err(_) => cpu,
    };
    let cpu = if cli.compute.no_repack { cpu.keep_mapped() } else { cpu };
    let mut options = LoadOptions {
        keys: cli.cache.cache_type_k,
        values: cli.cache.cache_type_v,
        rope: rope(&cli.model),
        progress: Some(progress()),
        ..LoadOptions::default()
    };
    let config = EngineConfig { state_key: key, ..plan(cli, &gguf, &mut options)? };
    let mut model = block_on(reprise_model::load(&source, &gguf, cpu, options))
        .with_context(|| format!("cannot load model '{}'", path.display()))?;
    if !cli.compute.no_warmup {
        warm_up(&mut model)?;
    }
    let (engine, handle) = Engine::new(model, text, stores, SystemClock::start(), config);
    announce(&handle, &path, begin.elapsed());
    let thread = thread::Builder::new().name("engine".into()).spawn(move || {
        affinity.apply(0);
        block_on(engine.run())
    })?;
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

/// Starts the threads that help the engine's. One that the system refuses is done without.
fn helpers(affinity: &Affinity) -> impl FnMut(HelperThread) -> bool {
    let (affinity, mut started) = (affinity.clone(), 0);
    move |helper| {
        started += 1;
        let (affinity, number) = (affinity.clone(), started);
        let thread = thread::Builder::new().name(format!("reprise-cpu-{number}"));
        let run = move || {
            affinity.apply(number);
            helper.run();
        };
        thread.spawn(run).is_ok()
    }
}

/// Sizes of the engine, checked against the machine's memory, with the KV blocks entered into `options`.
fn plan(cli: &Cli, gguf: &Gguf, options: &mut LoadOptions) -> Result<EngineConfig> {
    let plan = sizing(&cli.context, &cli.cache, &cli.speculation).plan(gguf, options)?;
    if cli.context.ctx_size > plan.train {
        tracing::warn!(
            "--ctx-size {} is more than the {} tokens the model was trained on: slots get {} tokens each",
            cli.context.ctx_size,
            plan.train,
            plan.config.slot_context
        );
    }
    let available = memory::available();
    if !cli.context.no_memory_check {
        memory::check(&plan.need, available)?;
    }
    Ok(plan.settle(available, options))
}

fn sizing(context: &ContextArgs, cache: &CacheArgs, speculation: &SpeculationArgs) -> Sizing {
    Sizing {
        slots: context.parallel,
        context: context.ctx_size,
        unified: (context.kv_unified || context.no_kv_unified).then_some(context.kv_unified),
        context_per_slot: context.kv_unified_per_slot,
        batch: context.batch_size,
        micro_batch: context.ubatch_size,
        continuous_batching: !context.no_cont_batching,
        context_shift: context.context_shift,
        speculation: speculation.speculation(),
        similarity: cache.slot_prompt_similarity,
        cache_ram: cache.cache_ram,
        cache_idle_slots: !cache.no_cache_idle_slots,
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use reprise_engine::Speculation;

    use super::*;

    fn of(flags: &str) -> Sizing {
        let cli = Cli::try_parse_from(std::iter::once("x").chain(flags.split_whitespace())).unwrap();
        sizing(&cli.context, &cli.cache, &cli.speculation)
    }

    #[test]
    fn without_flags_sizes_are_the_engines_defaults() {
        assert_eq!(of(""), Sizing::default());
    }

    #[test]
    fn flags_reach_the_sizes() {
        assert_eq!(of("--kv-unified").unified, Some(true));
        assert_eq!(of("--kv-unified --no-kv-unified").unified, Some(false));
        let flags = "--parallel 2 -c 512 --kv-unified-per-slot 300 -b 64 --ubatch-size 32 --no-cont-batching \
                     --context-shift --slot-prompt-similarity 0.5 --cache-ram -1 --no-cache-idle-slots \
                     --spec-type ngram-simple --spec-ngram-simple-size-n 3";
        let wanted = Sizing {
            slots: 2,
            context: 512,
            unified: None,
            context_per_slot: 300,
            batch: 64,
            micro_batch: 32,
            continuous_batching: false,
            context_shift: true,
            speculation: Some(Speculation { lookup: 3, ..Speculation::default() }),
            similarity: 0.5,
            cache_ram: -1,
            cache_idle_slots: false,
        };
        assert_eq!(of(flags), wanted);
    }
}
