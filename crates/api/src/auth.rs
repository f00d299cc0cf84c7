//! Who may ask, and whose the cache is that answers: API keys.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use reprise_engine::Tenant;

use crate::router::Api;

/// The API as the sender of a request sees it: with keys, what requests leave in the prompt cache is found by requests with the
/// same key only, unless the host says that all share one (`--cache-shared`).
pub(crate) struct Caller(pub(crate) Arc<Api>);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        let apart = !api.config.api_keys.is_empty() && !api.config.cache_shared;
        let Some(key) = given_key(&parts.headers).filter(|_| apart) else { return Ok(Self(Arc::clone(api))) };
        let engine = api.engine.for_tenant(tenant(key));
        Ok(Self(Arc::new(Api { engine, ..Api::clone(api) })))
    }
}

/// The same number for a key after every start.
fn tenant(key: &[u8]) -> Tenant {
    let hash = blake3::derive_key("reprise 2026-11 tenant of an API key", key);
    Tenant(u64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8])))
}

/// Paths that are open even with keys.
const PUBLIC: [&str; 3] = ["/health", "/v1/health", "/"];

/// Whether a request may pass. `path` is without the API's prefix.
pub(crate) fn allows(keys: &[String], path: &str, headers: &HeaderMap) -> bool {
    keys.is_empty() || PUBLIC.contains(&path) || given_key(headers).is_some_and(|given| is_known(keys, given))
}

/// `Authorization: Bearer KEY`, `Authorization: KEY`, or `X-Api-Key: KEY`; the first header that is there decides.
fn given_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value =
        |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes).filter(|value| !value.is_empty());
    let given = value(header::AUTHORIZATION).or_else(|| value(HeaderName::from_static("x-api-key")))?;
    Some(given.strip_prefix(b"Bearer ").unwrap_or(given))
}

/// Looks at every byte of every key of the right length, so that the time tells nothing about how much was right.
fn is_known(keys: &[String], given: &[u8]) -> bool {
    let same = |key: &[u8]| {
        let different = key.iter().zip(given).fold(0, |different, (a, b)| different | (a ^ b));
        key.len() == given.len() && different == 0
    };
    keys.iter().fold(false, |known, key| known | same(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(header: &str, value: &str) -> bool {
        let keys = ["k1".to_owned(), "longer key".to_owned()];
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_bytes(header.as_bytes()).unwrap(), value.parse().unwrap());
        allows(&keys, "/slots", &headers)
    }

    #[test]
    fn three_ways_to_give_a_key() {
        assert!(allowed("authorization", "Bearer k1"));
        assert!(allowed("authorization", "longer key"));
        assert!(allowed("x-api-key", "k1"));
    }

    #[test]
    fn wrong_keys_stay_out() {
        for value in ["", "k", "k1 ", "k11", "Bearer", "Bearer ", "bearer k1", "Basic k1", "K1", "longer"] {
            assert!(!allowed("authorization", value), "{value}");
        }
        assert!(!allows(&["k".to_owned()], "/slots", &HeaderMap::new()));
    }

    #[test]
    fn health_and_a_server_without_keys_are_open() {
        let keys = ["k".to_owned()];
        assert!(allows(&keys, "/health", &HeaderMap::new()) && allows(&keys, "/", &HeaderMap::new()));
        assert!(allows(&[], "/slots", &HeaderMap::new()));
        assert!(!allows(&keys, "/v1/models", &HeaderMap::new()));
    }
}
