//! `reprise-server`: llama-server's API on this machine's CPU.

mod affinity;
mod blocks;
mod cli;
mod clock;
mod engine_thread;
mod logs;
mod memory;
mod model_file;
mod page;
mod serve;
mod settings;
mod source;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use reprise_engine::Stores;
use tokio::sync::watch;

use crate::cli::Cli;
use crate::engine_thread::Running;
use crate::serve::Front;
use crate::store::DirStore;

fn main() -> ExitCode {
    let cli = Cli::from_process();
    logs::start(&cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

/// Stage 1: HTTP in. Binds, loads, serves, and ends in order on a signal.
async fn run(cli: Cli) -> Result<()> {
    let key = settings::state_key(&cli.cache)?;
    let slots = cli.cache.slot_save_path.as_deref().map(DirStore::open).transpose()?;
    let stores = Stores { slots, blocks: blocks::open(&cli.cache)? };
    let listener = serve::listen(&cli.http).await?;
    let address = listener.local_addr()?;
    let mut config = settings::api_config(&cli)?;
    let (ui, prefix) = (config.ui, config.prefix.clone());
    let loading = reprise_api::loading_router(config.clone());
    let front = Front::new(if ui { page::with_page(loading, &prefix, None) } else { loading });
    let (stop, stopped) = watch::channel(false);
    let idle = Duration::from_secs(cli.http.timeout.max(1));
    let serving = tokio::spawn(serve::serve(listener, front.clone(), idle, stopped));

    let patience = Duration::from_secs(cli.http.shutdown_timeout);
    let loading = tokio::task::spawn_blocking(move || engine_thread::start(&cli, stores, key));
    let Running { handle, thread, path } = tokio::select! {
        loaded = loading => loaded??,
        interrupted = serve::signal() => return interrupted,
    };
    // Whoever has no key gets nothing of the model.
    let open = config.api_keys.is_empty().then(|| PathBuf::from(&path));
    config.model.path = path;
    let api = reprise_api::router(handle.clone(), config);
    front.open(if ui { page::with_page(api, &prefix, open.as_deref()) } else { api });
    tracing::info!("listening on http://{address}");

    serve::signal().await?;
    tracing::info!("stopping: running requests have {} s to finish", patience.as_secs());
    handle.drain();
    // A receiver that is gone has stopped already.
    let _ = stop.send(true);
    let ended = tokio::task::spawn_blocking(move || thread.join());
    match tokio::time::timeout(patience, async { tokio::join!(serving, ended) }).await {
        Ok((served, _)) => served??,
        Err(_) => {
            tracing::warn!("requests were still running after {} s and are cut off", patience.as_secs());
        }
    }
    Ok(())
}
