//! The markers that a template puts around a model's reasoning.

use serde_json::{Map, Value, json};

use super::{ChatTemplate, Continuation, LocalTime, TemplateInput};

/// What stands before and after the reasoning of an answer, white space included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasoning {
    /// Such as `<think>` and a line feed.
    pub start: String,
    /// Such as a line feed and `</think>`.
    pub end: String,
}

const THOUGHT: &str = "THOUGHT then END";
const ANSWER: &str = "ANSWER then END";

impl Reasoning {
    /// Renders an answer with reasoning and takes what is around it. Templates that only cut reasoning out of past
    /// answers show it by how they do that.
    pub(super) fn of(template: &ChatTemplate) -> Option<Self> {
        let messages = json!([
            { "role": "user", "content": "User message" },
            { "role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT },
        ]);
        let shown = render(template, &messages, false, true).and_then(|text| Self::around_thought(&text));
        shown.or_else(|| {
            let cuts = template.source.contains("content.split('</think>')")
                && !template.source.contains("reasoning_content");
            cuts.then(|| Self { start: "<think>".to_owned(), end: "</think>".to_owned() })
        })
    }

    fn around_thought(text: &str) -> Option<Self> {
        let (before, after) = text.split_once(THOUGHT)?;
        let start = before.len() - marker_len(before.chars().rev(), '>', '<')?;
        let end = marker_len(after.chars(), '<', '>')?;
        Some(Self { start: before[start..].to_owned(), end: after[..end].to_owned() })
    }
}

/// Bytes of one marker in angle brackets with the white space on both of its sides.
fn marker_len(chars: impl Iterator<Item = char>, open: char, close: char) -> Option<usize> {
    let mut len = 0;
    let mut seen = Seen::Nothing;
    for character in chars {
        seen = match seen {
            Seen::Nothing if character == open => Seen::Open,
            Seen::Nothing if !character.is_whitespace() => return None,
            Seen::Open if character == close => Seen::Closed,
            Seen::Closed if !character.is_whitespace() => break,
            seen => seen,
        };
        len += character.len_utf8();
    }
    (seen == Seen::Closed).then_some(len)
}

#[derive(PartialEq)]
enum Seen {
    Nothing,
    Open,
    Closed,
}

/// Whether thinking can be switched in the template: its prompt depends on `enable_thinking`.
pub(super) fn has_switch(template: &ChatTemplate) -> bool {
    let messages = json!([{ "role": "user", "content": "User message" }]);
    render(template, &messages, true, true) != render(template, &messages, true, false)
}

fn render(template: &ChatTemplate, messages: &Value, generation: bool, thinking: bool) -> Option<String> {
    let extra = Map::from_iter([("enable_thinking".to_owned(), thinking.into())]);
    template
        .render(&TemplateInput {
            messages,
            tools: None,
            add_generation_prompt: generation,
            continuation: Continuation::None,
            extra: &extra,
            now: LocalTime::default(),
        })
        .ok()
}
