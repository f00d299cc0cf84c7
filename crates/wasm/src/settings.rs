//! From options to what the layers below take.

use std::time::Duration;

use reprise_api::{ApiConfig, Defaults, Endpoints, ModelCard, Pooling};
use reprise_engine::{Sizing, Speculation};
use reprise_model::{RopeOverrides, RopeScaling};
use reprise_text::Tokenizer;

use crate::clock;
use crate::error::{Failure, Kind};
use crate::memory::Budget;
use crate::options::{LoadOptions, PoolingChoice, RopeChoice, SpeculationChoice};

/// MiB of the prompt cache when the options do not say. Less than the server's 8192: the module's memory ends at 4 GiB,
/// a phone's long before, and a GPU's blocks are all taken at once.
const CACHE_RAM: [i64; 2] = [512, 128];

/// MiB of the cache in the browser's storage when the options do not say, in engines that store slots by themselves.
const CACHE_DISK: i64 = 256;

/// Most bytes of blocks that outlive the page, `None` without a limit; missing when none shall.
pub(crate) fn cache_disk(options: &LoadOptions, automatic: bool) -> Option<Option<u64>> {
    let mebibytes = options.cache_disk.unwrap_or(if automatic { CACHE_DISK } else { 0 });
    (mebibytes != 0).then(|| u64::try_from(mebibytes).ok().map(|mebibytes| mebibytes.saturating_mul(1 << 20)))
}

/// Slots, context and batches.
pub(crate) fn sizing(options: &LoadOptions, budget: Budget) -> Sizing {
    let [in_module, on_device] = CACHE_RAM;
    let cache_ram = if budget == Budget::Module { in_module } else { on_device };
    Sizing {
        slots: options.slots,
        context: options.context,
        unified: options.unified,
        context_per_slot: options.context_per_slot,
        batch: options.batch,
        micro_batch: options.micro_batch,
        continuous_batching: true,
        context_shift: options.context_shift,
        speculation: speculation(options),
        similarity: options.similarity,
        cache_ram: options.cache_ram.unwrap_or(cache_ram),
        cache_idle_slots: options.cache_idle_slots,
    }
}

fn speculation(options: &LoadOptions) -> Option<Speculation> {
    let default = Speculation::default();
    match options.spec_type {
        SpeculationChoice::None => None,
        SpeculationChoice::NgramSimple => Some(Speculation {
            lookup: options.spec_ngram_simple_size_n.unwrap_or(default.lookup),
            draft: options.spec_ngram_simple_size_m.unwrap_or(default.draft),
            hits: options.spec_ngram_simple_min_hits.unwrap_or(default.hits),
        }),
    }
}

/// What replaces the file's RoPE.
pub(crate) fn rope(options: &LoadOptions) -> RopeOverrides {
    RopeOverrides {
        freq_base: options.rope_freq_base,
        freq_scale: options.rope_freq_scale,
        scaling: options.rope_scaling.map(|scaling| match scaling {
            RopeChoice::None => RopeScaling::None,
            RopeChoice::Linear => RopeScaling::Linear,
        }),
    }
}

/// Everything the router needs besides the engine.
///
/// # Errors
/// [`Kind::Options`] when the default request fields are not valid.
pub(crate) fn api_config(options: &LoadOptions, tokenizer: &Tokenizer) -> Result<ApiConfig, Failure> {
    let mut config = ApiConfig::new(clock::unix_seconds, clock::entropy);
    config.model =
        ModelCard { aliases: options.aliases.clone(), tags: Vec::new(), path: options.model_name.clone() };
    config.endpoints = Endpoints {
        slots: options.slots_endpoint,
        slot_actions: options.slot_files,
        slots_debug: options.slots_debug,
        props: options.props,
        metrics: options.metrics,
        embeddings: options.embeddings.map(pooling),
    };
    let defaults = Defaults {
        predict: u32::try_from(options.predict).ok(),
        keep: options.keep,
        cache_prompt: options.cache_prompt,
        reuse_chunk: options.cache_reuse,
        heartbeat: u64::try_from(options.ping_interval).ok().map(Duration::from_secs),
        special: options.special,
        ..Defaults::default()
    };
    config.defaults = defaults
        .with_fields(&options.defaults, tokenizer)
        .map_err(|error| Failure::new(Kind::Options, format!("`defaults`: {error}")))?;
    config.cache_shared = options.cache_shared;
    config.api_keys = options.api_keys.iter().filter(|key| !key.is_empty()).cloned().collect();
    config.cors.origins.clone_from(&options.cors_origins);
    config.cors.credentials = options.cors_credentials;
    config.prefix = options.api_prefix.trim_end_matches('/').to_owned();
    config.body_limit = options.max_body;
    config.utc_offset = clock::utc_offset();
    Ok(config)
}

fn pooling(choice: PoolingChoice) -> Pooling {
    match choice {
        PoolingChoice::None => Pooling::None,
        PoolingChoice::Mean => Pooling::Mean,
        PoolingChoice::Cls => Pooling::Cls,
        PoolingChoice::Last => Pooling::Last,
    }
}
