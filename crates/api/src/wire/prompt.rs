//! The forms of a prompt: text, token ids, both mixed, an object around them, or a list of all these.

use reprise_gguf::TokenId;
use reprise_text::{Special, Tokenizer};
use serde_json::Value;

use super::field::{integer, string, type_error};
use crate::ApiError;

const FORMS: &str = "\"prompt\" elements must be a string, a list of tokens, a JSON object containing a prompt string, \
                     or a list of mixed strings & tokens.";

/// Special tokens are added and read, as in every prompt of a completion.
pub(crate) const WHOLE: Special = Special { add: true, parse: true };

/// All prompts of a request, at least one; each may be empty.
///
/// # Errors
/// [`ApiError::Invalid`] when a prompt has none of the forms or names a token that does not exist.
pub(crate) fn prompts(
    value: &Value,
    tokenizer: &Tokenizer,
    special: Special,
) -> Result<Vec<Vec<TokenId>>, ApiError> {
    let prompts = each(value, |prompt| one(prompt, tokenizer, special))?;
    if prompts.is_empty() { Err(ApiError::invalid("\"prompt\" must not be empty")) } else { Ok(prompts) }
}

/// Applies `read` to every prompt of a list, or to the one prompt. A list that holds an id is one prompt.
pub(crate) fn each<T>(
    value: &Value,
    read: impl Fn(&Value) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    match value {
        Value::Array(items) if !items.iter().any(is_id) => items.iter().map(read).collect(),
        single => Ok(vec![read(single)?]),
    }
}

/// One prompt.
///
/// # Errors
/// As [`prompts`].
pub(crate) fn one(value: &Value, tokenizer: &Tokenizer, special: Special) -> Result<Vec<TokenId>, ApiError> {
    match value {
        Value::String(_) => mixed(value, tokenizer, special),
        Value::Array(items)
            if items.iter().all(is_id) || (items.iter().any(is_id) && items.iter().any(Value::is_string)) =>
        {
            mixed(value, tokenizer, special)
        }
        Value::Object(fields) => match fields.get("prompt_string") {
            Some(_) if fields.contains_key("multimodal_data") => Err(ApiError::invalid(
                "Multimodal data provided, but model does not support multimodal requests.",
            )),
            Some(text) => mixed(text, tokenizer, special),
            None => Err(ApiError::invalid(FORMS)),
        },
        _ => Err(ApiError::invalid(FORMS)),
    }
}

/// Text, or a list of texts and ids. Special tokens are added only before a text that stands first.
///
/// # Errors
/// [`ApiError::Invalid`] when there is something else in it, or an id that is no token.
pub(crate) fn mixed(
    value: &Value,
    tokenizer: &Tokenizer,
    special: Special,
) -> Result<Vec<TokenId>, ApiError> {
    let Value::Array(items) = value else {
        return Ok(tokenizer.encode(string(value).map_err(ApiError::Invalid)?, special));
    };
    let mut tokens = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::String(text) => {
                let add = special.add && index == 0;
                tokens.extend(tokenizer.encode(text, Special { add, parse: special.parse }));
            }
            id => tokens.push(token(id, tokenizer)?),
        }
    }
    Ok(tokens)
}

/// A list of ids.
///
/// # Errors
/// As [`mixed`].
pub(crate) fn ids(value: &Value, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, ApiError> {
    let items = value.as_array().ok_or_else(|| ApiError::Invalid(type_error("array", value)))?;
    items.iter().map(|item| token(item, tokenizer)).collect()
}

fn token(value: &Value, tokenizer: &Tokenizer) -> Result<TokenId, ApiError> {
    let id = integer(value).map_err(ApiError::Invalid)?;
    let known = u32::try_from(id).ok().filter(|id| (*id as usize) < tokenizer.vocab().len());
    known.map(TokenId).ok_or_else(|| ApiError::invalid("Prompt contains invalid tokens"))
}

fn is_id(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}
