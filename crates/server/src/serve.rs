//! The socket: listens before the model is loaded, answers while it loads, ends in order.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::cli::HttpArgs;

/// A router that answers "loading" until the real one is there.
#[derive(Clone)]
pub(crate) struct Front {
    loading: Router,
    ready: Arc<OnceLock<Router>>,
}

impl Front {
    /// Answers with `loading` until [`Front::open`].
    pub(crate) fn new(loading: Router) -> Self {
        Self { loading, ready: Arc::default() }
    }

    /// From now on `router` answers.
    pub(crate) fn open(&self, router: Router) {
        // Called once; a second router would have no say.
        let _ = self.ready.set(router);
    }

    async fn answer(self, request: Request) -> Result<axum::response::Response, Infallible> {
        self.ready.get().cloned().unwrap_or(self.loading).oneshot(request).await
    }
}

/// Binds the address of the flags.
pub(crate) async fn listen(http: &HttpArgs) -> Result<TcpListener> {
    TcpListener::bind((http.host, http.port)).await.with_context(|| {
        format!(
            "cannot listen on {}:{}; is another server running there? Choose another --port",
            http.host, http.port
        )
    })
}

/// Serves until `stop` turns true, then finishes what runs.
pub(crate) fn serve(
    listener: TcpListener,
    front: Front,
    idle: Duration,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = std::io::Result<()>> {
    let router = Router::new()
        .fallback(move |request: Request| front.clone().answer(request))
        .layer(RequestBodyTimeoutLayer::new(idle));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // An error means that the sender is gone: the process is ending.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .into_future()
}

/// Completes on SIGINT or SIGTERM.
pub(crate) async fn signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
