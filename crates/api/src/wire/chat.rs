//! A chat request: the conversation for the template, and the fields of the completion it becomes.

use reprise_text::{Continuation, LocalTime, TemplateInput};
use serde_json::{Map, Value, json};

use super::field::{Fields, boolean, integer, string};
use super::options::{is_true, reasoning_format};
use super::sampling::any_object;
use crate::ApiError;
use crate::config::Defaults;

/// What the template is given, checked as far as the reference does it before the template sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversation {
    messages: Value,
    tools: Option<Value>,
    add_generation_prompt: bool,
    continuation: Continuation,
    arguments: Map<String, Value>,
}

impl Conversation {
    /// Reads the conversation.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for messages that are no messages, media, contradictory switches.
    pub(crate) fn parse(body: &Value, defaults: &Defaults) -> Result<Self, ApiError> {
        let empty = Map::new();
        let fields = body.as_object().unwrap_or(&empty);
        let messages = fields.get("messages").ok_or_else(|| ApiError::invalid("'messages' is required"))?;
        let list =
            messages.as_array().ok_or_else(|| ApiError::invalid("Expected 'messages' to be an array"))?;
        list.iter().try_for_each(check_message)?;
        check_tool_choice(fields)?;
        if let Some(format) = fields.get("reasoning_format") {
            reasoning_format(format).map_err(ApiError::Invalid)?;
        }
        let tools = fields.get("tools").filter(|tools| !tools.is_null()).cloned();
        let (continuation, add_generation_prompt) = continuation(fields, list, defaults)?;
        let messages = messages.clone();
        let arguments = arguments(fields, defaults)?;
        Ok(Self { messages, tools, add_generation_prompt, continuation, arguments })
    }

    /// What the template renders; `now` is local time.
    pub(crate) fn input(&self, now: LocalTime) -> TemplateInput<'_> {
        let Self { messages, tools, add_generation_prompt, continuation, arguments } = self;
        TemplateInput {
            messages,
            tools: tools.as_ref(),
            add_generation_prompt: *add_generation_prompt,
            continuation: *continuation,
            extra: arguments,
            now,
        }
    }
}

/// The fields of the completion: the request's own, with OpenAI's names for constraints and probabilities translated.
///
/// # Errors
/// [`ApiError::Invalid`] for a `response_format` that does not exist, two constraints at once, or `top_logprobs`
/// without `logprobs`.
pub(crate) fn completion_fields(body: &Value, prompt: String) -> Result<Map<String, Value>, ApiError> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    let own_schema = fields.remove("json_schema").filter(|schema| !schema.is_null());
    let grammar = Fields(&fields).lenient("grammar", string).is_some_and(|grammar| !grammar.is_empty());
    if own_schema.is_some() && grammar {
        return Err(ApiError::invalid("Cannot use both json_schema and grammar"));
    }
    let has_tools = fields.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    let tools_allowed = fields.get("tool_choice").and_then(Value::as_str) != Some("none");
    if has_tools && tools_allowed && fields.contains_key("grammar") {
        return Err(ApiError::invalid("Cannot use custom grammar constraints with tools."));
    }
    if let Some(schema) = response_schema(&fields, own_schema)? {
        fields.remove("grammar");
        fields.insert("json_schema".to_owned(), schema);
    }
    if is_true(&fields, "logprobs") {
        if has_tools && is_true(&fields, "stream") {
            return Err(ApiError::invalid("logprobs is not supported with tools + stream"));
        }
        let top = Fields(&fields).lenient("top_logprobs", integer).unwrap_or(20);
        fields.insert("n_probs".to_owned(), json!(i64::try_from(top).unwrap_or(i64::MAX)));
    } else if Fields(&fields).find(&["top_logprobs"]).is_some() {
        return Err(ApiError::invalid("top_logprobs requires logprobs to be set to true"));
    }
    fields.insert("prompt".to_owned(), Value::String(prompt));
    Ok(fields)
}

/// The schema that the answer must follow, from `response_format` or the request's own `json_schema`.
fn response_schema(fields: &Map<String, Value>, own: Option<Value>) -> Result<Option<Value>, ApiError> {
    let format = fields.get("response_format").and_then(Value::as_object);
    let kind = format.and_then(|format| format.get("type")).and_then(Value::as_str).unwrap_or_default();
    let under = |name: &str| format.and_then(|format| format.get(name)).filter(|value| !value.is_null());
    let schema = match kind {
        "json_object" if under("schema").is_some() || own.is_none() => {
            Some(under("schema").cloned().unwrap_or_else(any_object))
        }
        "json_schema" => {
            let schema = under("json_schema").and_then(|wrapper| wrapper.get("schema"));
            Some(schema.cloned().unwrap_or_else(any_object))
        }
        "" | "text" | "json_object" => own,
        other => {
            return Err(ApiError::Invalid(format!(
                "response_format type must be one of \"text\" or \"json_object\", but got: {other}"
            )));
        }
    };
    Ok(schema)
}

fn check_message(message: &Value) -> Result<(), ApiError> {
    let has = |name: &str| message.get(name).is_some();
    let assistant = message.get("role").and_then(Value::as_str) == Some("assistant");
    if !has("content") {
        return match (assistant, has("tool_calls")) {
            (true, true) => Ok(()),
            (true, false) => {
                Err(ApiError::invalid("Assistant message must contain either 'content' or 'tool_calls'!"))
            }
            (false, _) => Err(ApiError::invalid("All non-assistant messages must contain 'content'")),
        };
    }
    match &message["content"] {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(parts) => parts.iter().try_for_each(check_part),
        _ => Err(ApiError::invalid("Expected 'content' to be a string or an array")),
    }
}

fn check_part(part: &Value) -> Result<(), ApiError> {
    let media = match part.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(()),
        Some("image_url") => "image",
        Some("input_audio") => "audio",
        Some("input_video" | "video_url") => "video",
        _ => return Err(ApiError::invalid("unsupported content[].type")),
    };
    Err(ApiError::Invalid(format!("{media} input is not supported")))
}

/// The choice is checked; it has no effect, since the answer is not searched for tool calls.
fn check_tool_choice(fields: &Map<String, Value>) -> Result<(), ApiError> {
    match fields.get("tool_choice").and_then(Value::as_str) {
        None | Some("auto" | "none" | "required") => Ok(()),
        Some(other) => Err(ApiError::Invalid(format!("Invalid tool_choice: {other}"))),
    }
}

/// Whether the last message is to be continued, and whether an answer is to be opened.
fn continuation(
    fields: &Map<String, Value>,
    messages: &[Value],
    defaults: &Defaults,
) -> Result<(Continuation, bool), ApiError> {
    let add_generation_prompt = Fields(fields).lenient("add_generation_prompt", boolean).unwrap_or(true);
    let asked = match fields.get("continue_final_message") {
        Some(Value::Bool(true)) => Continuation::Auto,
        Some(Value::String(part)) if part == "content" => Continuation::Content,
        Some(Value::String(part)) if part == "reasoning_content" => Continuation::Reasoning,
        _ => Continuation::None,
    };
    let from_assistant = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("assistant");
    let trailing = messages.iter().rev().take_while(from_assistant).count();
    let (continuation, add_generation_prompt) = match asked {
        Continuation::None if defaults.prefill_assistant && trailing > 0 => {
            if trailing > 1 {
                return Err(ApiError::invalid(
                    "Cannot have 2 or more assistant messages at the end of the list.",
                ));
            }
            (Continuation::Auto, false)
        }
        asked => (asked, add_generation_prompt),
    };
    if continuation == Continuation::None {
        return Ok((continuation, add_generation_prompt));
    }
    if add_generation_prompt {
        return Err(ApiError::invalid(
            "Cannot set both add_generation_prompt and continue_final_message to true.",
        ));
    }
    let calls = messages.last().filter(from_assistant).and_then(|message| message.get("tool_calls"));
    if calls.and_then(Value::as_array).is_some_and(|calls| !calls.is_empty()) {
        return Err(ApiError::invalid("Cannot continue an assistant message that contains tool calls."));
    }
    Ok((continuation, false))
}

/// Variables for the template: the server's, over them the request's.
fn arguments(fields: &Map<String, Value>, defaults: &Defaults) -> Result<Map<String, Value>, ApiError> {
    let mut arguments = defaults.template_arguments.clone();
    if let Some(Value::Object(own)) = fields.get("chat_template_kwargs") {
        arguments.extend(own.clone());
    }
    if arguments.get("enable_thinking").is_some_and(Value::is_string) {
        return Err(ApiError::invalid("invalid type for \"enable_thinking\" (expected boolean, got string)"));
    }
    match Fields(fields).lenient("reasoning_effort", string) {
        Some("none") => {
            arguments.remove("reasoning_effort");
            arguments.insert("enable_thinking".to_owned(), Value::Bool(false));
        }
        Some(effort) if !effort.is_empty() => {
            arguments.insert("reasoning_effort".to_owned(), effort.into());
        }
        _ => {}
    }
    Ok(arguments)
}
