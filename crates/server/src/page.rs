//! The page: the files that `www` builds, and this server's model for the engine that runs in the page.

use std::borrow::Cow;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use tower::ServiceExt;
use tower_http::services::ServeFile;

/// The folder as it was when the binary was built; debug builds read it from the disk, and it may be missing.
#[derive(Embed)]
#[folder = "$REPRISE_PAGE"]
#[allow_missing = true]
struct Built;

/// A file of the page.
struct File {
    kind: String,
    tag: String,
    bytes: Cow<'static, [u8]>,
}

/// Where the page's files come from, by their path in the built folder.
type Files = fn(&str) -> Option<File>;

#[derive(Clone)]
struct Site {
    /// `/` and the API's prefix, without a slash at its end; empty for none.
    prefix: String,
    files: Files,
}

/// What a browser must be told with every file of the page: only an isolated page gets shared memory, and with it
/// threads.
const ISOLATION: [(HeaderName, HeaderValue); 3] = [
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Names in this folder carry a hash of their content.
const HASHED: &str = "assets/";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
    <title>Reprise</title><style>body{font:1rem/1.6 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem;color-scheme:light dark}\
    </style><h1>The page is not built</h1><p>This server was built without its page. Build it with \
    <code>cargo xtask wasm</code>, then build the server again. The API answers all the same.</p></html>";

/// Puts the page in front of the API, under the API's `prefix`. It needs no key: it holds nothing but the page. With
/// `model`, that file is at `models/default.gguf` for everybody who can reach the server.
pub(crate) fn with_page(api: Router, prefix: &str, model: Option<&Path>) -> Router {
    site(api, prefix, model, built)
}

fn site(api: Router, prefix: &str, model: Option<&Path>, files: Files) -> Router {
    let prefix = match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("/{prefix}"),
    };
    let mut router = Router::new();
    if let Some(model) = model {
        let name = disposition(model);
        let file = ServeFile::new(model);
        let service = tower::service_fn(move |request: Request| {
            let (file, name) = (file.clone(), name.clone());
            async move { file.oneshot(request).await.map(|file| mark_model(name, file.map(Body::new))) }
        });
        router = router.route_service(&format!("{prefix}/models/default.gguf"), service);
    }
    let site = Site { prefix, files };
    router.fallback_service(api).layer(from_fn_with_state(site, page_first))
}

async fn page_first(State(site): State<Site>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let found = reads.then(|| site.answer(request.uri().path(), request.headers())).flatten();
    match found {
        Some(response) => response,
        None => next.run(request).await,
    }
}

impl Site {
    /// The file at a path of a request, if it is the page's.
    fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let rest = path.strip_prefix(&self.prefix)?;
        if rest.is_empty() && !self.prefix.is_empty() {
            // Relative addresses in the page need the slash.
            return Some(
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("{path}/"))]).into_response(),
            );
        }
        let name = match rest.strip_prefix('/')? {
            "" => "index.html",
            name => name,
        };
        match (self.files)(name) {
            Some(file) => Some(file.into_response(name, headers)),
            None if name == "index.html" => Some(axum::response::Html(NOT_BUILT).into_response()),
            None => None,
        }
    }
}

impl File {
    fn into_response(self, name: &str, asked: &HeaderMap) -> Response {
        let caching =
            if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
        let known = asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == self.tag.as_bytes());
        let about = [(header::CACHE_CONTROL, caching.to_owned()), (header::ETAG, self.tag)];
        let mut response = if known {
            (StatusCode::NOT_MODIFIED, about).into_response()
        } else {
            (about, [(header::CONTENT_TYPE, self.kind)], Body::from(self.bytes)).into_response()
        };
        response.headers_mut().extend(ISOLATION.map(|(name, value)| (Some(name), value)));
        response
    }
}

fn built(name: &str) -> Option<File> {
    let file = Built::get(name)?;
    let kind = file.metadata.mimetype();
    let kind = if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind.to_owned() };
    let hash = file.metadata.sha256_hash();
    let tag = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(File { kind, tag: format!("\"{tag}\""), bytes: file.data })
}

/// The name under which the page lists the model.
fn disposition(model: &Path) -> Option<HeaderValue> {
    let name = model.file_name()?.to_string_lossy().replace(['"', '\\'], "_");
    HeaderValue::from_str(&format!("inline; filename=\"{name}\"")).ok()
}

fn mark_model(name: Option<HeaderValue>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.extend(ISOLATION.map(|(name, value)| (Some(name), value)));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(name) = name {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn files(name: &str) -> Option<File> {
        let (kind, bytes): (&str, &[u8]) = match name {
            "index.html" => ("text/html; charset=utf-8", b"page"),
            "assets/engine-1a2b.wasm" => ("application/wasm", b"\0asm"),
            _ => return None,
        };
        Some(File { kind: kind.to_owned(), tag: "\"1\"".to_owned(), bytes: bytes.into() })
    }

    fn ask(router: Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let request =
            headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        futures::executor::block_on(async {
            let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (head, body) = response.into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
        })
    }

    fn api() -> Router {
        Router::new().fallback(async || (StatusCode::NOT_FOUND, "api"))
    }

    #[test]
    fn the_page_is_isolated_and_its_entry_is_not_cached() {
        let (status, headers, body) = ask(site(api(), "", None, files), "/", &[]);
        assert_eq!((status, body.as_str()), (StatusCode::OK, "page"));
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers["cross-origin-embedder-policy"], "require-corp");
        assert_eq!(headers["cache-control"], "no-cache");
        let (status, _, body) = ask(site(api(), "", None, files), "/", &[("if-none-match", "\"1\"")]);
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }

    #[test]
    fn hashed_files_are_cached_for_good() {
        let (_, headers, _) = ask(site(api(), "", None, files), "/assets/engine-1a2b.wasm", &[]);
        assert_eq!(headers["content-type"], "application/wasm");
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
    }

    #[test]
    fn everything_else_is_the_apis() {
        for path in ["/v1/models", "/assets/gone.js", "/models/default.gguf"] {
            assert_eq!(ask(site(api(), "", None, files), path, &[]).2, "api", "{path}");
        }
    }

    #[test]
    fn a_prefix_is_in_front_of_the_page_too() {
        let prefixed = || site(api(), "/llm", None, files);
        assert_eq!(ask(prefixed(), "/llm/", &[]).2, "page");
        assert_eq!(ask(prefixed(), "/", &[]).2, "api");
        assert_eq!(ask(prefixed(), "/llmx/", &[]).2, "api");
        let (status, headers, _) = ask(prefixed(), "/llm", &[]);
        assert_eq!(
            (status, &headers["location"]),
            (StatusCode::TEMPORARY_REDIRECT, &HeaderValue::from_static("/llm/"))
        );
    }

    #[test]
    fn without_a_built_page_the_way_to_build_it_is_told() {
        let (status, _, body) = ask(site(api(), "", None, |_| None), "/", &[]);
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("cargo xtask wasm"), "{body}");
    }

    #[test]
    fn the_model_is_served_in_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        std::fs::write(&model, b"GGUF and more").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let request = Request::get("/llm/models/default.gguf")
            .header("range", "bytes=2-5")
            .body(Body::empty())
            .unwrap();
        let (head, body) = runtime.block_on(async {
            let response = site(api(), "llm", Some(&model), files).oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            (head, to_bytes(body, 100).await.unwrap())
        });
        assert_eq!((head.status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"UF a"[..]));
        assert_eq!(head.headers["content-range"], "bytes 2-5/13");
        assert_eq!(head.headers["content-disposition"], "inline; filename=\"tiny.gguf\"");
        assert_eq!(head.headers["cross-origin-resource-policy"], "same-origin");
    }
}
