//! The page at `/`, compiled into the binary.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// Adds the page's files to the API's router. They need no key: they hold nothing but the page.
pub(crate) fn with_page(api: Router) -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text).into_response() })
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../../../www/index.html")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("../../../www/page.js")))
        .route("/style.css", file("text/css; charset=utf-8", include_str!("../../../www/style.css")))
        .fallback_service(api)
}
