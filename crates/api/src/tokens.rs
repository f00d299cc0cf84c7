//! Stage 2: `/tokenize` and `/detokenize`.

use axum::body::Body;
use axum::response::Response;
use reprise_gguf::TokenId;
use reprise_text::Special;
use serde::Serialize;
use serde_json::Map;

use crate::ApiError;
use crate::auth::Caller;
use crate::body::ok;
use crate::wire::field::{Fields, boolean};
use crate::wire::prompt::{ids, mixed};

#[derive(Debug, Serialize)]
struct Tokens<T> {
    tokens: Vec<T>,
}

#[derive(Debug, Serialize)]
struct WithPiece {
    id: u32,
    piece: Piece,
}

/// A token's text, or its bytes where these are no text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Serialize)]
struct Content {
    content: String,
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    let empty = Map::new();
    let body = body.as_object().unwrap_or(&empty);
    let flag = |name: &str, default: bool| Fields(body).lenient(name, boolean).unwrap_or(default);
    let special = Special { add: flag("add_special", false), parse: flag("parse_special", true) };
    let tokenizer = &api.engine.text().tokenizer;
    let tokens = match body.get("content") {
        Some(content) => mixed(content, tokenizer, special)?,
        None => Vec::new(),
    };
    if !flag("with_pieces", false) {
        return Ok(ok(&Tokens { tokens: tokens.iter().map(|token| token.0).collect() }));
    }
    let with_piece = |token: TokenId| WithPiece { id: token.0, piece: piece(tokenizer.piece(token)) };
    Ok(ok(&Tokens { tokens: tokens.into_iter().map(with_piece).collect() }))
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let body = api.json(body).await?;
    let tokenizer = &api.engine.text().tokenizer;
    let content = match body.as_object().and_then(|fields| fields.get("tokens")) {
        Some(tokens) => tokenizer.decode(&ids(tokens, tokenizer)?),
        None => String::new(),
    };
    Ok(ok(&Content { content }))
}

fn piece(bytes: &[u8]) -> Piece {
    match std::str::from_utf8(bytes) {
        Ok(text) => Piece::Text(text.to_owned()),
        Err(_) => Piece::Bytes(bytes.to_vec()),
    }
}
