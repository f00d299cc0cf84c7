//! Stage 2: `/embedding` and `/v1/embeddings`: hidden states as vectors.

use axum::body::Body;
use axum::response::Response;
use futures::future::try_join_all;
use reprise_gguf::TokenId;
use serde_json::{Map, Value};

use crate::ApiError;
use crate::auth::Caller;
use crate::body::ok;
use crate::router::Api;
use crate::wire::embedding::{Embeddings, Encoding, Raw};
use crate::wire::field::{integer, string};
use crate::wire::prompt::{WHOLE, each, one};

/// How the states of a text's tokens become one vector (`--pooling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// They stay as they are, one vector a token.
    None,
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// One text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedded {
    /// One vector, or with [`Pooling::None`] one a token.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens of the text.
    pub(crate) tokens: usize,
}

/// `POST /embedding`, `POST /embeddings`.
pub(crate) async fn native(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let pooling = pooling(&api)?;
    let request = Request::parse(&api, &api.json(body).await?)?;
    Ok(ok(&Raw::all(embed(&api, request.texts, pooling, request.norm).await?)))
}

/// `POST /v1/embeddings`.
pub(crate) async fn openai(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let pooling = pooling(&api)?;
    if pooling == Pooling::None {
        return Err(ApiError::invalid(
            "Pooling type 'none' is not OAI compatible. Please use a different pooling type",
        ));
    }
    let request = Request::parse(&api, &api.json(body).await?)?;
    let embedded = embed(&api, request.texts, pooling, request.norm).await?;
    if request.native {
        return Ok(ok(&Raw::all(embedded)));
    }
    let model = request.model.unwrap_or_else(|| api.config.model.id().to_owned());
    Ok(ok(&Embeddings::new(model, embedded, request.encoding)))
}

fn pooling(api: &Api) -> Result<Pooling, ApiError> {
    api.config.endpoints.embeddings.ok_or_else(|| {
        ApiError::NotSupported(
            "This server does not support embeddings. Start it with `--embeddings`".to_owned(),
        )
    })
}

/// A request for embeddings.
struct Request {
    texts: Vec<Vec<TokenId>>,
    /// The texts stood under `content`, which OpenAI does not have: the answer is llama-server's own.
    native: bool,
    encoding: Encoding,
    norm: i32,
    model: Option<String>,
}

impl Request {
    fn parse(api: &Api, body: &Value) -> Result<Self, ApiError> {
        let empty = Map::new();
        let fields = body.as_object().unwrap_or(&empty);
        let (input, native) = match (fields.get("input"), fields.get("content")) {
            (Some(input), _) => (input, false),
            (None, Some(content)) => (content, true),
            (None, None) => return Err(ApiError::invalid("\"input\" or \"content\" must be provided")),
        };
        let encoding = fields.get("encoding_format").map(string).transpose().map_err(ApiError::Invalid)?;
        let encoding = match encoding {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(_) => {
                return Err(ApiError::invalid(
                    "The format to return the embeddings in. Can be either float or base64",
                ));
            }
        };
        let texts = each(input, |text| entry(api, text))?;
        if texts.is_empty() {
            return Err(ApiError::invalid("\"input\" must not be empty"));
        }
        if texts.iter().any(Vec::is_empty) {
            return Err(ApiError::invalid("Input content cannot be empty"));
        }
        let norm = fields.get("embd_normalize").map(integer).transpose().map_err(ApiError::Invalid)?;
        let norm = norm.map_or(EUCLIDEAN, |norm| norm.clamp(-1, i32::MAX.into()) as i32);
        let model = fields.get("model").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { texts, native, encoding, norm, model })
    }
}

/// A prompt in any of its forms, or OpenAI's `{"content": [{"type": "text", "text": ..}]}`.
fn entry(api: &Api, value: &Value) -> Result<Vec<TokenId>, ApiError> {
    let tokenizer = &api.engine.text().tokenizer;
    let Some(content) = value.as_object().and_then(|fields| fields.get("content")) else {
        return one(value, tokenizer, WHOLE);
    };
    let parts = content.as_array().ok_or_else(|| ApiError::invalid("\"content\" must be an array"))?;
    let part = |part: &Value| match part.get("type").and_then(Value::as_str) {
        Some("text") => Ok(part.get("text").and_then(Value::as_str).unwrap_or_default().to_owned()),
        _ => Err(ApiError::invalid("unsupported content[].type")),
    };
    let text: String = parts.iter().map(part).collect::<Result<_, _>>()?;
    Ok(tokenizer.encode(&text, WHOLE))
}

async fn embed(
    api: &Api,
    texts: Vec<Vec<TokenId>>,
    pooling: Pooling,
    norm: i32,
) -> Result<Vec<Embedded>, ApiError> {
    let width = api.engine.model().embedding.max(1);
    let one = |text: Vec<TokenId>| async move {
        let tokens = text.len();
        let states = api.engine.embed(text).await?;
        Ok(Embedded { vectors: pool(&states, width, pooling, norm), tokens })
    };
    try_join_all(texts.into_iter().map(one)).await
}

/// `states` is `[tokens, width]`. Only a pooled vector is normalised, as in the reference.
fn pool(states: &[f32], width: usize, pooling: Pooling, norm: i32) -> Vec<Vec<f32>> {
    let mut rows = states.chunks_exact(width);
    let pooled = match pooling {
        Pooling::None => return rows.map(<[f32]>::to_vec).collect(),
        Pooling::Cls => rows.next().map(<[f32]>::to_vec),
        Pooling::Last => rows.next_back().map(<[f32]>::to_vec),
        Pooling::Mean => {
            let count = rows.len() as f32;
            let mut sum = vec![0.0; width];
            rows.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
            Some(sum.into_iter().map(|sum| sum / count.max(1.0)).collect())
        }
    };
    pooled.into_iter().map(|vector| normalise(&vector, norm)).collect()
}

const EUCLIDEAN: i32 = 2;

/// `embd_normalize`: -1 leaves the vector, 0 scales its largest value to 32760 (the 16-bit range), any other number is
/// the p of a p-norm that becomes one.
fn normalise(vector: &[f32], norm: i32) -> Vec<f32> {
    let absolute = vector.iter().map(|value| f64::from(value.abs()));
    let length = match norm {
        ..0 => 1.0,
        0 => absolute.fold(0.0, f64::max) / 32760.0,
        EUCLIDEAN => absolute.map(|value| value * value).sum::<f64>().sqrt(),
        p => absolute.map(|value| value.powi(p)).sum::<f64>().powf(1.0 / f64::from(p)),
    };
    let scale = if length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
    vector.iter().map(|value| value * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [f32; 6] = [3.0, 4.0, 1.0, 0.0, -1.0, 2.0];

    #[test]
    fn pools_rows() {
        assert_eq!(pool(&STATES, 2, Pooling::None, 2), [[3.0, 4.0], [1.0, 0.0], [-1.0, 2.0]]);
        assert_eq!(pool(&STATES, 2, Pooling::Cls, -1), [[3.0, 4.0]]);
        assert_eq!(pool(&STATES, 2, Pooling::Last, -1), [[-1.0, 2.0]]);
        assert_eq!(pool(&STATES, 2, Pooling::Mean, -1), [[1.0, 2.0]]);
    }

    #[test]
    fn normalises() {
        assert_eq!(normalise(&[3.0, -4.0], 2), [0.6, -0.8]);
        assert_eq!(normalise(&[3.0, -1.0], 1), [0.75, -0.25]);
        assert_eq!(normalise(&[2.0, -4.0], 0), [16380.0, -32760.0]);
        assert_eq!(normalise(&[3.0, -4.0], -1), [3.0, -4.0]);
        assert_eq!(normalise(&[0.0, 0.0], 2), [0.0, 0.0]);
    }
}
