//! `logit_bias` in all its forms: `[[id, bias], ["text", bias]]` or `{"id": bias, "text": bias}`; `false` bans.

use reprise_gguf::TokenId;
use reprise_text::{Special, Tokenizer};
use serde::Serialize;
use serde_json::Value;

use super::field::float;
use super::number::Widened;

/// One bias as `generation_settings` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Bias {
    bias: Widened,
    token: u32,
}

impl From<&(TokenId, f32)> for Bias {
    fn from((token, bias): &(TokenId, f32)) -> Self {
        Self { bias: Widened(*bias), token: token.0 }
    }
}

/// Reads the biases. As in the reference, pairs of another form and unknown ids are left out.
pub(crate) fn parse(value: &Value, tokenizer: &Tokenizer) -> Vec<(TokenId, f32)> {
    let mut biases = Vec::new();
    match value {
        Value::Array(pairs) => {
            for pair in pairs {
                let Some([target, amount]) = pair.as_array().map(Vec::as_slice) else { continue };
                let Some(amount) = bias(amount) else { continue };
                match target {
                    Value::String(text) => push_text(&mut biases, text, amount, tokenizer),
                    id => push_id(&mut biases, id.as_i64(), amount, tokenizer),
                }
            }
        }
        Value::Object(pairs) => {
            for (target, amount) in pairs {
                let Some(amount) = bias(amount) else { continue };
                match target.trim_start().parse() {
                    Ok(id) => push_id(&mut biases, Some(id), amount, tokenizer),
                    Err(_) => push_text(&mut biases, target, amount, tokenizer),
                }
            }
        }
        _ => {}
    }
    biases
}

fn bias(value: &Value) -> Option<f32> {
    match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        Value::Number(_) => float(value).ok(),
        _ => None,
    }
}

fn push_id(biases: &mut Vec<(TokenId, f32)>, id: Option<i64>, amount: f32, tokenizer: &Tokenizer) {
    let known =
        id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < tokenizer.vocab().len());
    biases.extend(known.map(|id| (TokenId(id), amount)));
}

fn push_text(biases: &mut Vec<(TokenId, f32)>, text: &str, amount: f32, tokenizer: &Tokenizer) {
    let tokens = tokenizer.encode(text, Special { add: false, parse: false });
    biases.extend(tokens.into_iter().map(|token| (token, amount)));
}
