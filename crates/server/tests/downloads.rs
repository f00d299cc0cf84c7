//! `--model-url` and `--hf-repo` against a server on the loopback interface.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use conformance::fixtures::Fixture;
use sha2::{Digest, Sha256};

use common::{Launch, hex};

/// A host of one file that breaks off the first `failures` answers in the middle.
#[derive(Clone)]
struct Host {
    file: Bytes,
    failures: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Host {
    fn new(failures: usize) -> Self {
        let file = Bytes::from(Fixture::LlamaSpm.to_bytes().unwrap());
        Self { file, failures: Arc::new(failures.into()), requests: Arc::default() }
    }

    /// Serves in the background; the address.
    fn serve(&self) -> String {
        let files = get(|State(host): State<Self>, headers: HeaderMap| async move { host.answer(&headers) });
        let listing = get(|UrlPath(_): UrlPath<String>| async {
            r#"{"siblings":[{"rfilename":"readme.md"},{"rfilename":"tiny-Q4_K_M.gguf"}],"sha":"c0ffee"}"#
        });
        let router = Router::new()
            .route("/tiny.gguf", files.clone())
            .route("/someone/tiny/resolve/main/tiny-Q4_K_M.gguf", files)
            .route("/api/models/{*rest}", listing)
            .with_state(self.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        format!("http://{address}")
    }

    fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let range = headers["range"].to_str().unwrap().trim_start_matches("bytes=").to_owned();
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(self.file.len(), |end: usize| end + 1);
        let part = self.file.slice(start..end);
        let broken = part.len() > 1
            && self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        let body = if broken {
            let half = part.slice(..part.len() / 2);
            let chunks = [Ok(half), Err(std::io::Error::other("broken off"))];
            Body::from_stream(futures::stream::iter(chunks))
        } else {
            Body::from(part.clone())
        };
        Response::builder()
            .status(206)
            .header("content-range", format!("bytes {start}-{}/{}", end - 1, self.file.len()))
            .header("content-length", part.len())
            .header("etag", format!("\"{}\"", hex(&Sha256::digest(&self.file))))
            .header("x-repo-commit", "c0ffee")
            .body(body)
            .unwrap()
    }
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(files_below(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn a_url_is_downloaded_resumed_verified_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::new(2);
    let url = format!("{}/tiny.gguf", host.serve());
    let sum = hex(&Sha256::digest(&host.file));
    let launch =
        || Launch::new(&["--model-url", &url, "--model-sha256", &sum]).env("REPRISE_CACHE", cache.path());
    launch().healthy();
    assert_eq!(host.requests.load(Ordering::SeqCst), 3, "two broken answers, one that finished the file");
    launch().healthy();
    assert_eq!(host.requests.load(Ordering::SeqCst), 3, "the second start downloads nothing");
    assert_eq!(files_below(cache.path()), ["tiny.gguf"]);
}

#[test]
fn a_file_with_the_wrong_checksum_is_refused_and_removed() {
    let cache = tempfile::tempdir().unwrap();
    let url = format!("{}/tiny.gguf", Host::new(0).serve());
    let error = Launch::new(&["--model-url", &url, "--model-sha256", &"0".repeat(64)])
        .env("REPRISE_CACHE", cache.path())
        .fails();
    assert!(error.contains("SHA-256"), "{error}");
    assert!(files_below(cache.path()).is_empty());
}

#[test]
fn a_hub_repository_is_found_through_its_endpoint_variable() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::new(0);
    let launch = || {
        Launch::new(&["-hf", "someone/tiny"]).env("HF_ENDPOINT", host.serve()).env("HF_HOME", cache.path())
    };
    launch().healthy();
    let requests = host.requests.load(Ordering::SeqCst);
    launch().healthy();
    assert_eq!(host.requests.load(Ordering::SeqCst), requests, "the second start downloads nothing");
}

#[test]
fn a_quantisation_that_is_not_there_is_named_with_what_is() {
    let cache = tempfile::tempdir().unwrap();
    let launch = Launch::new(&["-hf", "someone/tiny:Q8_0"]).env("HF_ENDPOINT", Host::new(0).serve());
    let error = launch.env("HF_HOME", cache.path()).fails();
    assert!(error.contains("q8_0") && error.contains("tiny-Q4_K_M.gguf"), "{error}");
}
