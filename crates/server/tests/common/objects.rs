//! A place for objects over HTTP, in memory: what `--cache-path URL` wants.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test uses a part

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::get;

type Held = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// A running one; it ends with the process.
pub struct Objects {
    pub url: String,
    /// By name.
    pub held: Held,
}

impl Objects {
    pub fn start() -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn start_at(listener: TcpListener) -> Self {
        let held = Held::default();
        let url = format!("http://{}/kv", listener.local_addr().unwrap());
        let object = get(|State(held): State<Held>, Path(name): Path<String>| async move {
            held.lock().unwrap().get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
        });
        let object =
            object.put(|State(held): State<Held>, Path(name): Path<String>, body: Bytes| async move {
                held.lock().unwrap().insert(name, body);
                StatusCode::CREATED
            });
        let object = object.delete(|State(held): State<Held>, Path(name): Path<String>| async move {
            held.lock().unwrap().remove(&name).map_or(StatusCode::NOT_FOUND, |_| StatusCode::NO_CONTENT)
        });
        let router = Router::new().route("/kv/{name}", object.layer(DefaultBodyLimit::disable()));
        let router = router.with_state(Arc::clone(&held));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { url, held }
    }
}
