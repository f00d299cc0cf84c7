//! Requests from web pages of other origins.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;

/// `--cors-origins` and its kin.
///
/// By default, like llama-server, every origin is reflected and credentials are allowed: web interfaces anywhere can
/// use a local server. That also means that any page a person visits can talk to it. For one thing this is too much:
/// a slot action reads or overwrites files and throws away state, and `POST /slots/{id}` needs no preflight, so a page
/// could do it even without being allowed to read the answer. Reprise therefore refuses slot actions whose `Origin` is
/// neither this machine nor the server's own, unless the operator has spoken: by naming origins (`*` too) with
/// `--cors-origins`, or by setting an API key, which a foreign page does not have. Programs send no `Origin` and notice
/// nothing.
#[derive(Debug, Clone)]
pub struct CorsConfig {
    /// Allowed origins: `*`, `localhost`, or what is sent as it stands. `None`: not set, the same as `*` but for slot
    /// actions.
    pub origins: Option<String>,
    /// `Access-Control-Allow-Methods`.
    pub methods: String,
    /// `Access-Control-Allow-Headers`.
    pub headers: String,
    /// `Access-Control-Allow-Credentials`.
    pub credentials: bool,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self {
            origins: None,
            methods: "GET, POST, DELETE, OPTIONS".to_owned(),
            headers: "*".to_owned(),
            credentials: true,
        }
    }
}

impl CorsConfig {
    /// The answer to `OPTIONS`. Of the paths only a slot's state may be put, which llama-server has not.
    pub(crate) fn preflight(&self, path: &str) -> Response {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        let credentials = if self.credentials { "true" } else { "false" };
        set(headers, header::CONTENT_TYPE, "text/html");
        set(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        if path.starts_with("/slots/") && path.ends_with("/state") {
            set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &format!("{}, PUT", self.methods));
        } else {
            set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
        }
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
        response
    }

    /// Marks an answer for the origin that asked; `None` for a request without one.
    pub(crate) fn mark(&self, origin: Option<&HeaderValue>, response: &mut Response) {
        let headers = response.headers_mut();
        // A page sees few headers of another origin's unless they are named, and `*` names none with credentials.
        if headers.contains_key(header::ETAG) {
            set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, "ETag");
        }
        match self.origins.as_deref().unwrap_or("*") {
            // A browser takes no `*` together with credentials.
            "*" if self.credentials => {
                let origin = origin.cloned().unwrap_or(HeaderValue::from_static(""));
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            }
            "localhost" => {
                if let Some(origin) = origin.filter(|origin| is_local(origin)) {
                    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                }
            }
            fixed => set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, fixed),
        }
    }

    /// Whether a request with these headers may act on slots; see [`CorsConfig`].
    pub(crate) fn trusts(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let named = match self.origins.as_deref() {
            None | Some("localhost") => false,
            Some("*") => true,
            Some(fixed) => origin.as_bytes() == fixed.as_bytes(),
        };
        named || is_local(origin) || is_own(origin, headers.get(header::HOST))
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // A configured value that is no header value is left out rather than answered with an error.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn uri(origin: &HeaderValue) -> Option<Uri> {
    origin.to_str().ok()?.parse().ok()
}

/// A page of this machine, on any port.
fn is_local(origin: &HeaderValue) -> bool {
    let uri = uri(origin);
    matches!(uri.as_ref().and_then(Uri::host), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// A page that this server itself has sent.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let uri = uri(origin);
    let authority = uri.as_ref().and_then(Uri::authority).map(|authority| authority.as_str().as_bytes());
    authority.is_some() && authority == host.map(HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(origins: Option<&str>, credentials: bool, origin: Option<&'static str>) -> Option<String> {
        let cors = CorsConfig { origins: origins.map(str::to_owned), credentials, ..CorsConfig::default() };
        let mut response = Response::new(Body::empty());
        cors.mark(origin.map(HeaderValue::from_static).as_ref(), &mut response);
        let value = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn origins_are_marked_as_the_reference_does() {
        assert_eq!(marked(None, true, Some("http://a.b")).as_deref(), Some("http://a.b"));
        assert_eq!(marked(None, true, None).as_deref(), Some(""));
        assert_eq!(marked(None, false, Some("http://a.b")).as_deref(), Some("*"));
        assert_eq!(marked(Some("http://x"), true, Some("http://a.b")).as_deref(), Some("http://x"));
        for local in ["http://localhost", "https://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:9"]
        {
            assert_eq!(marked(Some("localhost"), true, Some(local)).as_deref(), Some(local));
        }
        for foreign in ["http://a.b", "http://localhost.a.b", "null", "http://127.0.0.1.a.b"] {
            assert_eq!(marked(Some("localhost"), true, Some(foreign)), None);
        }
    }

    #[test]
    fn slot_actions_are_for_programs_local_pages_and_named_origins() {
        let trusts = |origins: Option<&str>, origin: Option<&'static str>, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            CorsConfig { origins: origins.map(str::to_owned), ..CorsConfig::default() }.trusts(&headers)
        };
        assert!(trusts(None, None, "box:8080"));
        assert!(trusts(None, Some("http://localhost:5173"), "127.0.0.1:8080"));
        assert!(trusts(None, Some("http://box:8080"), "box:8080"));
        assert!(!trusts(None, Some("http://evil.example"), "127.0.0.1:8080"));
        assert!(!trusts(None, Some("null"), "127.0.0.1:8080"));
        assert!(!trusts(Some("localhost"), Some("http://evil.example"), "127.0.0.1:8080"));
        assert!(trusts(Some("*"), Some("http://evil.example"), "127.0.0.1:8080"));
        assert!(trusts(Some("http://app.example"), Some("http://app.example"), "127.0.0.1:8080"));
    }
}
