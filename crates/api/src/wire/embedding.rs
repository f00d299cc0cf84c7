//! The answers of `/embedding` and `/v1/embeddings`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::number::Widened;
use crate::embeddings::Embedded;

/// llama-server's own form: vectors of one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Raw {
    index: usize,
    embedding: Vec<Vec<Widened>>,
}

/// OpenAI's form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Embeddings {
    model: String,
    object: &'static str,
    usage: Usage,
    data: Vec<Item>,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As numbers.
    Float,
    /// Its bytes (little endian) as base64.
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Item {
    embedding: Vector,
    index: usize,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<Widened>),
    Base64(String),
}

impl Raw {
    /// All texts of a request, in order.
    pub(crate) fn all(texts: Vec<Embedded>) -> Vec<Self> {
        let raw = |(index, text): (usize, Embedded)| Self {
            index,
            embedding: text.vectors.into_iter().map(widened).collect(),
        };
        texts.into_iter().enumerate().map(raw).collect()
    }
}

impl Embeddings {
    /// All texts of a request, in order; each has one vector.
    pub(crate) fn new(model: String, texts: Vec<Embedded>, encoding: Encoding) -> Self {
        let tokens = texts.iter().map(|text| text.tokens).sum();
        let item = |(index, text): (usize, Embedded)| {
            let vector = text.vectors.into_iter().next().unwrap_or_default();
            let embedding = match encoding {
                Encoding::Float => Vector::Numbers(widened(vector)),
                Encoding::Base64 => Vector::Base64(base64(&vector)),
            };
            let encoding_format = (encoding == Encoding::Base64).then_some("base64");
            Item { embedding, index, object: "embedding", encoding_format }
        };
        Self {
            model,
            object: "list",
            usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
            data: texts.into_iter().enumerate().map(item).collect(),
        }
    }
}

fn widened(vector: Vec<f32>) -> Vec<Widened> {
    vector.into_iter().map(Widened).collect()
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings() {
        let texts = || vec![Embedded { vectors: vec![vec![0.5, -1.0]], tokens: 3 }];
        assert_eq!(
            serde_json::to_string(&Embeddings::new("m".into(), texts(), Encoding::Float)).unwrap(),
            r#"{"model":"m","object":"list","usage":{"prompt_tokens":3,"total_tokens":3},"data":[{"embedding":[0.5,-1.0],"index":0,"object":"embedding"}]}"#
        );
        let encoded = serde_json::to_string(&Embeddings::new("m".into(), texts(), Encoding::Base64)).unwrap();
        assert!(encoded.contains(r#""embedding":"AAAAPwAAgL8=","index":0"#), "{encoded}");
        assert_eq!(
            serde_json::to_string(&Raw::all(texts())).unwrap(),
            r#"[{"index":0,"embedding":[[0.5,-1.0]]}]"#
        );
    }
}
