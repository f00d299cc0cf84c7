//! Stage 2: `/infill`: code between a prefix and a suffix, for models with fill-in-the-middle tokens.

use axum::body::Body;
use axum::response::Response;
use reprise_gguf::TokenId;
use reprise_text::{Special, Tokenizer};
use serde_json::{Map, Value};

use crate::auth::Caller;
use crate::wire::field::object;
use crate::wire::prompt::mixed;
use crate::wire::reply::Shape;
use crate::{ApiError, completion};

/// `POST /infill`.
pub(crate) async fn infill(Caller(api): Caller, body: Body) -> Result<Response, ApiError> {
    let tokenizer = &api.engine.text().tokenizer;
    let marks = Marks::of(tokenizer)?;
    let body = api.json(body).await?;
    let mut fields = object(&body)?.clone();
    let source = Source::parse(&fields, tokenizer)?;
    let config = api.engine.config();
    let room = Room {
        batch: config.batch as usize,
        context: config.slot_context as usize,
        // The reference counts an unlimited prediction as -1.
        predict: api.config.defaults.predict.map_or(-1, i64::from),
    };
    let tokens = source.arrange(&marks, &room, tokenizer, api.config.defaults.suffix_first);
    let ids = tokens.into_iter().map(|token| Value::from(token.0)).collect();
    fields.insert("prompt".to_owned(), Value::Array(ids));
    completion::run(&api, &fields, Shape::Native).await
}

/// The model's tokens for the parts of a prompt.
struct Marks {
    prefix: TokenId,
    suffix: TokenId,
    middle: TokenId,
    repo: Option<TokenId>,
    separator: Option<TokenId>,
}

/// The texts of a request as tokens.
struct Source {
    prefix: Vec<TokenId>,
    suffix: Vec<TokenId>,
    /// What already stands in the middle.
    middle: Vec<TokenId>,
    /// Other files: name and text.
    extra: Vec<(String, String)>,
}

/// What limits the length of a prompt, tokens.
struct Room {
    batch: usize,
    context: usize,
    predict: i64,
}

impl Marks {
    fn of(tokenizer: &Tokenizer) -> Result<Self, ApiError> {
        let fim = &tokenizer.vocab().fim;
        if let (Some(prefix), Some(suffix), Some(middle)) = (fim.prefix, fim.suffix, fim.middle) {
            return Ok(Self { prefix, suffix, middle, repo: fim.repo, separator: fim.separator });
        }
        let all = [("prefix", fim.prefix), ("suffix", fim.suffix), ("middle", fim.middle)];
        let missing = all.iter().filter(|(_, token)| token.is_none());
        let missing: String = missing.map(|(name, _)| format!("{name} token is missing. ")).collect();
        Err(ApiError::NotSupported(format!("Infill is not supported by this model: {missing}")))
    }
}

impl Source {
    fn parse(fields: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<Self, ApiError> {
        let middle = match fields.get("prompt") {
            None => Vec::new(),
            Some(Value::String(text)) => tokenizer.encode(text, Special { add: false, parse: true }),
            Some(_) => return Err(ApiError::invalid("\"prompt\" must be a string")),
        };
        let part = |name: &str| {
            let text = fields.get(name);
            let text = text.ok_or_else(|| ApiError::Invalid(format!("\"{name}\" is required")))?;
            mixed(text, tokenizer, PLAIN)
        };
        let (prefix, suffix) = (part("input_prefix")?, part("input_suffix")?);
        let extra = match fields.get("input_extra") {
            None => Vec::new(),
            Some(Value::Array(chunks)) => chunks.iter().map(chunk).collect::<Result<_, _>>()?,
            Some(_) => {
                return Err(ApiError::invalid(
                    "\"input_extra\" must be an array of {\"filename\": string, \"text\": string}",
                ));
            }
        };
        Ok(Self { prefix, suffix, middle, extra })
    }

    /// Other files first, then `PREFIX prefix middle-so-far SUFFIX suffix MIDDLE`; texts that are too long lose what is
    /// farthest from the gap.
    fn arrange(
        mut self,
        marks: &Marks,
        room: &Room,
        tokenizer: &Tokenizer,
        suffix_first: bool,
    ) -> Vec<TokenId> {
        let extra = self.extra_tokens(marks, tokenizer);
        // Three quarters of a batch for the prefix, one for the suffix.
        let quarter = room.batch / 4;
        let prefix_length = self.prefix.len().min(3 * quarter);
        let suffix_length = self.suffix.len().min(quarter.saturating_sub(2 + self.middle.len()));
        let extra_room = room.context as i64 - room.batch as i64 - 2 * room.predict;
        let extra_length = extra.len().min(usize::try_from(extra_room).unwrap_or(0));

        let mut prefix = vec![marks.prefix];
        prefix.extend_from_slice(&self.prefix[self.prefix.len() - prefix_length..]);
        prefix.append(&mut self.middle);
        let mut suffix = vec![marks.suffix];
        suffix.extend_from_slice(&self.suffix[..suffix_length]);
        let (first, second) = if suffix_first { (suffix, prefix) } else { (prefix, suffix) };

        let vocab = tokenizer.vocab();
        let mut tokens = extra[extra.len() - extra_length..].to_vec();
        tokens.extend(vocab.bos.filter(|_| vocab.add_bos));
        tokens.extend(first);
        tokens.extend(second);
        tokens.push(marks.middle);
        tokens
    }

    fn extra_tokens(&self, marks: &Marks, tokenizer: &Tokenizer) -> Vec<TokenId> {
        let encode = |text: &str| tokenizer.encode(text, PLAIN);
        let mut tokens = Vec::new();
        if let Some(repo) = marks.repo {
            tokens.push(repo);
            tokens.extend(encode("myproject\n"));
        }
        for (name, text) in &self.extra {
            match marks.separator {
                Some(separator) => {
                    tokens.push(separator);
                    tokens.extend(encode(&format!("{name}\n")));
                }
                None => tokens.extend(encode("\n\n--- snippet ---\n\n")),
            }
            tokens.extend(encode(text));
        }
        if let Some(separator) = marks.separator {
            tokens.push(separator);
            tokens.extend(encode("filename\n"));
        }
        tokens
    }
}

/// Text is text here, whatever it looks like.
const PLAIN: Special = Special { add: false, parse: false };

fn chunk(chunk: &Value) -> Result<(String, String), ApiError> {
    let text = chunk.get("text").and_then(Value::as_str).ok_or_else(|| {
        ApiError::invalid("extra_context chunk must contain a \"text\" field with a string value")
    })?;
    let name = match chunk.get("filename") {
        None | Some(Value::Null) => "tmp",
        Some(Value::String(name)) => name,
        Some(_) => {
            return Err(ApiError::invalid("extra_context chunk's \"filename\" field must be a string"));
        }
    };
    Ok((name.to_owned(), text.to_owned()))
}
