//! Chat messages and tools: from a client's JSON to the JSON that templates are written for.

use serde_json::{Map, Value, json};

use super::caps::Caps;
use crate::TextError;

/// One message of a conversation, checked.
#[derive(Debug, Default)]
pub(super) struct Message {
    role: String,
    content: Content,
    reasoning: String,
    /// Name of the tool whose answer this is.
    name: String,
    tool_call_id: String,
    tool_calls: Vec<ToolCall>,
}

#[derive(Debug)]
enum Content {
    Text(String),
    /// The text parts of an array of content parts.
    Parts(Vec<String>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

#[derive(Debug)]
struct ToolCall {
    id: String,
    name: String,
    /// JSON as text.
    arguments: String,
}

/// Checks the messages of a request.
pub(super) fn parse(messages: &Value) -> Result<Vec<Message>, TextError> {
    let messages = messages
        .as_array()
        .ok_or_else(|| bad(format!("Expected 'messages' to be an array, got {messages}")))?;
    messages.iter().map(message).collect()
}

fn bad(reason: impl Into<String>) -> TextError {
    TextError::Messages(reason.into())
}

fn message(message: &Value) -> Result<Message, TextError> {
    let object = message
        .as_object()
        .ok_or_else(|| bad(format!("Expected 'message' to be an object, got {message}")))?;
    if !object.contains_key("role") {
        return Err(bad(format!("Missing 'role' in message: {message}")));
    }
    if !object.contains_key("content") && !object.contains_key("tool_calls") {
        return Err(bad("Expected 'content' or 'tool_calls'"));
    }
    Ok(Message {
        role: string(object, "role")?,
        content: object.get("content").map(content).transpose()?.unwrap_or_default(),
        reasoning: string(object, "reasoning_content")?,
        name: string(object, "name")?,
        tool_call_id: string(object, "tool_call_id")?,
        tool_calls: match object.get("tool_calls") {
            Some(Value::Array(calls)) => calls.iter().map(tool_call).collect::<Result<_, _>>()?,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(bad(format!("Expected 'tool_calls' to be an array, got {other}"))),
        },
    })
}

/// An optional string; missing and null are empty.
fn string(object: &Map<String, Value>, key: &str) -> Result<String, TextError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(bad(format!("Expected '{key}' to be a string, got {other}"))),
    }
}

fn content(content: &Value) -> Result<Content, TextError> {
    match content {
        Value::Null => Ok(Content::default()),
        Value::String(text) => Ok(Content::Text(text.clone())),
        Value::Array(parts) => parts.iter().map(part).collect::<Result<_, _>>().map(Content::Parts),
        other => Err(bad(format!("Invalid 'content' type: expected string or array, got {other}"))),
    }
}

fn part(part: &Value) -> Result<String, TextError> {
    let kind = part.get("type").ok_or_else(|| bad(format!("Missing content part type: {part}")))?;
    if kind != "text" {
        return Err(bad(format!("Unsupported content part type: {kind}")));
    }
    let text = part.get("text").and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| bad(format!("Missing text of a content part: {part}")))
}

fn tool_call(call: &Value) -> Result<ToolCall, TextError> {
    let kind = call.get("type").ok_or_else(|| bad(format!("Missing tool call type: {call}")))?;
    if kind != "function" {
        return Err(bad(format!("Unsupported tool call type: {call}")));
    }
    let function = call.get("function").ok_or_else(|| bad(format!("Missing tool call function: {call}")))?;
    let name = function.get("name").and_then(Value::as_str);
    Ok(ToolCall {
        id: call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name: name.ok_or_else(|| bad(format!("Missing tool call name: {call}")))?.to_owned(),
        arguments: match function.get("arguments") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => return Err(bad(format!("Missing tool call arguments: {call}"))),
        },
    })
}

impl Message {
    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
            && [&self.reasoning, &self.name, &self.tool_call_id].into_iter().all(String::is_empty)
            && self.tool_calls.is_empty()
    }

    /// Whether it says nothing but how the answer was thought out.
    pub(super) fn is_reasoning_only(&self) -> bool {
        !self.reasoning.is_empty() && self.content.is_empty()
    }

    pub(super) fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// The content as one text.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => join(parts, "\n\n"),
        }
    }

    /// The message as a template of these abilities reads it.
    fn to_json(&self, caps: &Caps) -> Result<Value, TextError> {
        let mut object = Map::new();
        object.insert("role".to_owned(), self.role.as_str().into());
        object.insert("content".to_owned(), self.content.to_json(caps));
        let texts = [
            ("reasoning_content", &self.reasoning),
            ("name", &self.name),
            ("tool_call_id", &self.tool_call_id),
        ];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            object.insert(key.to_owned(), text.as_str().into());
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(|call| call.to_json(caps)).collect::<Result<_, _>>()?;
            object.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        Ok(Value::Object(object))
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Parts(parts) => parts.is_empty(),
        }
    }

    fn to_json(&self, caps: &Caps) -> Value {
        let typed = |text: &str| json!({ "type": "text", "text": text });
        let only_text = caps.string_content && !caps.typed_content;
        let only_typed = caps.typed_content && !caps.string_content;
        match self {
            Self::Parts(parts) if !parts.is_empty() && !only_text => {
                parts.iter().map(|part| typed(part)).collect()
            }
            Self::Parts(parts) if !parts.is_empty() => join(parts, "\n").into(),
            // No parts at all are an empty text.
            Self::Parts(_) if only_typed => json!([typed("")]),
            Self::Parts(_) => "".into(),
            Self::Text(text) if only_typed => json!([typed(text)]),
            Self::Text(text) => text.as_str().into(),
        }
    }
}

impl ToolCall {
    fn to_json(&self, caps: &Caps) -> Result<Value, TextError> {
        let arguments = if caps.object_arguments {
            serde_json::from_str(&self.arguments)
                .map_err(|error| bad(format!("Failed to parse tool call arguments as JSON: {error}")))?
        } else {
            Value::from(self.arguments.as_str())
        };
        let mut call =
            json!({ "type": "function", "function": { "name": self.name, "arguments": arguments } });
        if !self.id.is_empty() {
            call["id"] = self.id.as_str().into();
        }
        Ok(call)
    }
}

/// Joins texts; an empty start takes no delimiter.
fn join(parts: &[String], delimiter: &str) -> String {
    parts.iter().fold(String::new(), |mut text, part| {
        if !text.is_empty() {
            text += delimiter;
        }
        text + part
    })
}

/// The `messages` variable: what the template cannot express is expressed otherwise.
pub(super) fn prepare(messages: &[Message], caps: &Caps, template: &str) -> Result<Value, TextError> {
    let mut values = messages.iter().map(|message| message.to_json(caps)).collect::<Result<Vec<_>, _>>()?;
    // Harmony templates tell developer and system apart, no others know the former.
    if !template.contains("<|channel|>") {
        for value in values.iter_mut().filter(|value| value["role"] == "developer") {
            value["role"] = "system".into();
        }
    }
    if !caps.system_role && values.first().is_some_and(|first| first["role"] == "system") {
        let system = values.remove(0);
        if let Some(next) = values.first_mut() {
            let (Some(system), Some(text)) = (system["content"].as_str(), next["content"].as_str()) else {
                return Err(bad(
                    "the template has no system role, and the content to merge it with is not text",
                ));
            };
            next["content"] = format!("{system}\n{text}").into();
        }
    }
    Ok(Value::Array(values))
}

/// The `tools` variable.
pub(super) fn parse_tools(tools: &Value) -> Result<Value, TextError> {
    let bad = |reason: String| TextError::Tools(reason);
    match tools {
        Value::Null => Ok(Value::Array(Vec::new())),
        Value::Array(tools) => tools.iter().map(|tool| parse_tool(tool).map_err(bad)).collect(),
        other => Err(bad(format!("Expected 'tools' to be an array, got {other}"))),
    }
}

fn parse_tool(tool: &Value) -> Result<Value, String> {
    let kind = tool.get("type").ok_or_else(|| format!("Missing tool type: {tool}"))?;
    if kind != "function" {
        return Err(format!("Unsupported tool type: {tool}"));
    }
    let function = tool.get("function").ok_or_else(|| format!("Missing tool function: {tool}"))?;
    let name =
        function.get("name").and_then(Value::as_str).ok_or_else(|| format!("Missing tool name: {tool}"))?;
    let description = function.get("description").and_then(Value::as_str).unwrap_or_default();
    let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({}));
    Ok(json!({
        "type": "function",
        "function": { "name": name, "description": description, "parameters": parameters },
    }))
}

#[cfg(test)]
mod tests;
