//! Stage 2: `GET /slots`; saving, restoring and erasing a slot; its state as a download and an upload.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream;
use reprise_engine::{Generate, SlotFormat};
use serde_json::Value;

use crate::auth::Caller;
use crate::body::{ok, read};
use crate::etag::ETag;
use crate::router::Api;
use crate::wire::chat::completion_fields;
use crate::wire::field::{Fields, object, required, string};
use crate::wire::options::Options;
use crate::wire::prompt::{WHOLE, prompts};
use crate::wire::slot::{Erased, Plan, Restored, Saved, Slot};
use crate::{ApiError, FileName, chat};

type Parameters = Result<Query<HashMap<String, String>>, QueryRejection>;

/// `GET /slots`; with `fail_on_no_slot` it is an error that all slots are busy.
pub(crate) async fn list(Caller(api): Caller, query: Parameters) -> Result<Response, ApiError> {
    let endpoints = &api.config.endpoints;
    if !endpoints.slots {
        return Err(ApiError::NotSupported(
            "This server does not support slots endpoint. Start it with `--slots`".to_owned(),
        ));
    }
    let slots = api.engine.slots().await?;
    let must_have_idle = parameter(&query, "fail_on_no_slot").is_some_and(|value| !value.is_empty());
    if must_have_idle && slots.iter().all(|slot| slot.processing) {
        return Err(ApiError::Unavailable("no slot available"));
    }
    let slot = |snapshot| Slot::new(snapshot, &api.engine, endpoints.slots_debug);
    Ok(ok(&slots.iter().map(slot).collect::<Vec<_>>()))
}

/// `POST /slots/plan`: where a completion or a chat with this body would run, and what that would reuse and cost. Nothing changes.
/// Reprise's own.
pub(crate) async fn plan(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    let fields = match body.get("messages") {
        Some(_) => Cow::Owned(completion_fields(&body, chat::render(&api, &body)?)?),
        None => Cow::Borrowed(object(&body)?),
    };
    let prompts = prompts(required(&fields, "prompt")?, &api.engine.text().tokenizer, WHOLE)?;
    let Options { template, .. } = Options::parse(&fields, &api.engine, &api.config)?;
    let [prompt] = <[_; 1]>::try_from(prompts).map_err(|prompts| {
        ApiError::Invalid(format!("a plan is for one prompt, not for {}", prompts.len()))
    })?;
    let preview = api.engine.plan(Generate { prompt, ..template }).await?;
    Ok(ok(&Plan::from(&preview)))
}

/// `POST /slots/{id}?action=save|restore|erase`.
///
/// An id beyond the slots wraps around, as in the reference; the answer repeats the id that was asked for.
pub(crate) async fn action(
    Caller(api): Caller,
    path: Result<Path<String>, PathRejection>,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (id, slot) = allowed(&api, path, &headers)?;
    match parameter(&query, "action") {
        Some("save") => {
            let body = api.json(body).await?;
            let (name, format) = (file_name(&body)?, format(&body)?);
            let file = api.engine.save_as(slot, name.clone().into_string(), format).await?;
            Ok(ok(&Saved::new(id, &name, file)))
        }
        Some("restore") => {
            let name = file_name(&api.json(body).await?)?;
            let file = api.engine.restore(slot, name.clone().into_string()).await?;
            Ok(ok(&Restored::new(id, Some(&name), file)))
        }
        Some("erase") => Ok(ok(&Erased { id_slot: id, n_erased: api.engine.erase(slot).await? })),
        _ => Err(ApiError::invalid("Invalid action")),
    }
}

/// `GET /slots/{id}/state`: the image of a slot, as a save would write it to a file, or 304 for a client that has it.
///
/// `PUT` takes no `If-Match`: it would have to read the whole slot first, and between two requests for a slot others may run.
pub(crate) async fn export(
    Caller(api): Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (_, slot) = allowed(&api, path, &headers)?;
    let image = api.engine.export_slot(slot).await?;
    let etag = ETag::new(&image.digest);
    let (known, length) = (etag.is_known(&headers), image.len());
    // An empty stream rather than an empty body, to which a length of 0 would be added, and that is not the state's.
    let parts = if known { Vec::new() } else { image.parts };
    let parts = stream::iter(parts.into_iter().map(Ok::<_, Infallible>));
    let mut response = Response::new(Body::from_stream(parts));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.into());
    // A copy may be kept, but the slot has moved on as soon as a request ran on it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// `PUT /slots/{id}/state`: what an export gave, of this server or another with the same model, replaces the slot.
///
/// Images are larger than requests: a body may be as large as an image of a full slot.
pub(crate) async fn import(
    Caller(api): Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (id, slot) = allowed(&api, path, &headers)?;
    let limit = usize::try_from(api.engine.config().max_image).unwrap_or(usize::MAX);
    let image = read(body, limit).await?;
    let file = api.engine.import_slot(slot, image).await?;
    Ok(ok(&Restored::new(id, None, file)))
}

/// The slot that a request may read or change: its id as it was asked for, and its number.
fn allowed(
    api: &Api,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
) -> Result<(i32, u32), ApiError> {
    let config = &api.config;
    if !config.endpoints.slot_actions {
        return Err(ApiError::NotSupported(
            "This server does not support slots action. Start it with `--slot-save-path`".to_owned(),
        ));
    }
    if config.api_keys.is_empty() && !config.cors.trusts(headers) {
        return Err(ApiError::Forbidden(
            "Slot actions from web pages of other origins are refused: allow the page with `--cors-origins`, or set \
             an API key"
                .to_owned(),
        ));
    }
    let id = path.ok().and_then(|Path(id)| leading_integer(&id));
    let id = id.ok_or_else(|| ApiError::invalid("Invalid slot ID"))?;
    Ok((id, api.engine.slot_of(id.into())))
}

fn parameter<'a>(query: &'a Parameters, name: &str) -> Option<&'a str> {
    query.as_ref().ok()?.get(name).map(String::as_str)
}

fn file_name(body: &Value) -> Result<FileName, ApiError> {
    let name = string(required(object(body)?, "filename")?).map_err(ApiError::Invalid)?;
    FileName::parse(name).map_err(|refused| ApiError::Invalid(refused.to_string()))
}

/// What a slot is saved as: `format`, which llama-server does not know.
fn format(body: &Value) -> Result<SlotFormat, ApiError> {
    let format = Fields(object(body)?).read(&["format"], |value| match string(value)? {
        "reprise" => Ok(SlotFormat::Image),
        "llama.cpp" => Ok(SlotFormat::Llama),
        other => Err(format!("must be \"reprise\" or \"llama.cpp\", but is \"{other}\"")),
    })?;
    Ok(format.unwrap_or_default())
}

/// The number a text begins with, as C reads it: `1abc` is 1, ` +1` is 1, `abc` is none.
fn leading_integer(text: &str) -> Option<i32> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let signed = usize::from(text.starts_with(['+', '-']));
    let digits = text[signed..].bytes().take_while(u8::is_ascii_digit).count();
    text[..signed + digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_the_reference_reads_them() {
        let cases = [
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("+1", Some(1)),
            (" 7", Some(7)),
            ("1abc", Some(1)),
            ("99", Some(99)),
            ("abc", None),
            ("", None),
            ("-", None),
            ("99999999999", None),
            ("é", None),
            ("--1", None),
        ];
        for (text, id) in cases {
            assert_eq!(leading_integer(text), id, "{text:?}");
        }
    }

    #[test]
    fn file_names_are_checked_at_the_door() {
        let error = |body: Value| file_name(&body).unwrap_err().to_string();
        assert_eq!(
            error(serde_json::json!({})),
            "[json.exception.out_of_range.403] key 'filename' not found"
        );
        assert_eq!(
            error(serde_json::json!({"filename": 5})),
            "[json.exception.type_error.302] type must be string, but is number"
        );
        assert_eq!(
            error(serde_json::json!([])),
            "[json.exception.type_error.304] cannot use at() with array"
        );
        assert_eq!(error(serde_json::json!({"filename": "../a"})), "Invalid filename");
        assert_eq!(file_name(&serde_json::json!({"filename": "a.bin"})).unwrap().as_str(), "a.bin");
    }
}
