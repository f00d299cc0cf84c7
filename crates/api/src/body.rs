//! Bodies in and out: JSON within a size limit, errors in the reference's words.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::LengthLimitError;
use serde::Serialize;
use serde_json::Value;

use crate::ApiError;

/// Reads a body as JSON.
///
/// # Errors
/// As [`read`]; [`ApiError::Invalid`] when it is not JSON or is nested deeper than serde_json's limit.
pub(crate) async fn read_json(body: Body, limit: usize) -> Result<Value, ApiError> {
    parse_json(&read(body, limit).await?).map_err(ApiError::Invalid)
}

/// Reads a body.
///
/// # Errors
/// [`ApiError::TooLarge`] beyond `limit` bytes; [`ApiError::Invalid`] when it ends early.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    to_bytes(body, limit).await.map_err(|error| {
        let error = error.into_inner();
        if error.is::<LengthLimitError>() {
            ApiError::TooLarge(limit)
        } else {
            ApiError::invalid(format!("the request body ended early: {error}"))
        }
    })
}

/// Parses JSON; the error text follows the reference's library: its number and place are equal, its reason is
/// serde_json's.
pub(crate) fn parse_json(bytes: &[u8]) -> Result<Value, String> {
    const EMPTY: &str = "attempting to parse an empty input; check that your input string or stream contains the \
                         expected JSON";
    serde_json::from_slice(bytes).map_err(|error| {
        // The reference counts the missing character at the end of a text too.
        let column = error.column() + usize::from(error.is_eof() && !bytes.is_empty());
        let place = format!("parse error at line {}, column {}", error.line().max(1), column.max(1));
        if bytes.is_empty() {
            return format!("[json.exception.parse_error.101] {place}: {EMPTY}");
        }
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        if reason == "number out of range" {
            return format!("[json.exception.out_of_range.406] number overflow: {place}");
        }
        let reason = if error.is_eof() { "unexpected end of input" } else { reason };
        format!("[json.exception.parse_error.101] {place}: syntax error while parsing value - {reason}")
    })
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    // Only a map with keys that are no strings fails to serialise, and no wire type has one.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// A JSON answer with status 200.
pub(crate) fn ok(value: &impl Serialize) -> Response {
    json_response(StatusCode::OK, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_errors_have_the_number_and_place_of_the_reference() {
        let cases: [(&[u8], &str); 5] = [
            (b"{", "[json.exception.parse_error.101] parse error at line 1, column 2: "),
            (b"{\"prompt\":\"a\",}", "[json.exception.parse_error.101] parse error at line 1, column 15: "),
            (b"{\"a\":1}{", "[json.exception.parse_error.101] parse error at line 1, column 8: "),
            (b"\n[1,", "[json.exception.parse_error.101] parse error at line 2, column 4: "),
            (b"[1e400]", "[json.exception.out_of_range.406] number overflow"),
        ];
        for (text, expected) in cases {
            let message = parse_json(text).expect_err("no JSON");
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
