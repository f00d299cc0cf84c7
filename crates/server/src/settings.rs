//! From flags to the API's configuration.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use reprise_api::{ApiConfig, Defaults, Endpoints, ModelCard, Pooling};
use reprise_engine::StateKey;
use std::hash::{BuildHasher, RandomState};

use crate::cli::{CacheArgs, Cli, HttpArgs, PoolingArg};

/// Everything the router needs besides the engine; the model's path comes when it is known.
pub(crate) fn api_config(cli: &Cli) -> Result<ApiConfig> {
    let http = &cli.http;
    let mut config = ApiConfig::new(unix_seconds, entropy);
    config.model = ModelCard { aliases: cli.model.alias.clone(), tags: Vec::new(), path: String::new() };
    config.endpoints = Endpoints {
        slots: !http.no_slots,
        slot_actions: cli.cache.slot_save_path.is_some(),
        slots_debug: std::env::var("LLAMA_SERVER_SLOTS_DEBUG").is_ok_and(|value| value != "0"),
        props: http.props,
        metrics: http.metrics,
        embeddings: http.embedding.then(|| http.pooling.map_or(Pooling::None, pooling)),
    };
    config.defaults = Defaults {
        sampling: cli.sampling.sampling(),
        predict: u32::try_from(cli.context.predict).ok(),
        keep: cli.context.keep,
        cache_prompt: !cli.cache.no_cache_prompt,
        reuse_chunk: cli.cache.cache_reuse,
        heartbeat: u64::try_from(http.sse_ping_interval).ok().map(Duration::from_secs),
        special: cli.compute.special,
        ..Defaults::default()
    };
    config.api_keys = api_keys(http)?;
    config.cache_shared = cli.cache.cache_shared;
    config.cors.origins.clone_from(&http.cors_origins);
    config.cors.credentials = !http.no_cors_credentials;
    config.prefix = http.api_prefix.trim_end_matches('/').to_owned();
    config.body_limit = http.max_body;
    config.ui = !http.no_ui;
    Ok(config)
}

/// What images are tagged with (`--state-key`).
pub(crate) fn state_key(cache: &CacheArgs) -> Result<Option<StateKey>> {
    let Some(file) = &cache.state_key else { return Ok(None) };
    let secret = std::fs::read(file)
        .with_context(|| format!("cannot read the --state-key file '{}'", file.display()))?;
    let key = StateKey::derive(&secret);
    key.map(Some).with_context(|| format!("the --state-key file '{}' is too short", file.display()))
}

fn api_keys(http: &HttpArgs) -> Result<Vec<String>> {
    let mut keys: Vec<String> = http.api_key.iter().filter(|key| !key.is_empty()).cloned().collect();
    if let Some(file) = &http.api_key_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read API keys from '{}'", file.display()))?;
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from));
        anyhow::ensure!(!keys.is_empty(), "'{}' has no API key", file.display());
    }
    Ok(keys)
}

fn pooling(argument: PoolingArg) -> Pooling {
    match argument {
        PoolingArg::None => Pooling::None,
        PoolingArg::Mean => Pooling::Mean,
        PoolingArg::Cls => Pooling::Cls,
        PoolingArg::Last => Pooling::Last,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random bits of the system, through the seeds that the standard library gives its hash maps.
fn entropy() -> u64 {
    RandomState::new().hash_one(0)
}
