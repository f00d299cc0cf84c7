//! The markers that a template puts around a model's reasoning.

use serde_json::{Map, Value, json};

use super::{ChatTemplate, Continuation, LocalTime, TemplateInput};

/// What stands before and after the reasoning of an answer, with the white space that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasoning {
    /// Such as `<think>` and a line feed; empty where the template does not write one.
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
        let end = marker_at_start(after)?;
        Some(match marker_at_end(before) {
            Some(start) => Self { start: start.to_owned(), end: end.to_owned() },
            None => Self { start: String::new(), end: end.trim_start().to_owned() },
        })
    }
}

/// The last marker of a text, `<..>` or `[..]`, with the white space after it.
fn marker_at_end(text: &str) -> Option<&str> {
    let trimmed = text.trim_end();
    let open = match trimmed.chars().next_back()? {
        '>' => '<',
        ']' => '[',
        _ => return None,
    };
    Some(&text[trimmed.rfind(open)?..])
}

/// The first marker of a text with the white space on both of its sides.
fn marker_at_start(text: &str) -> Option<&str> {
    let trimmed = text.trim_start();
    let close = match trimmed.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    let rest = &trimmed[trimmed.find(close)? + 1..];
    Some(&text[..text.len() - rest.trim_start().len()])
}

/// Whether thinking can be switched: the prompt depends on `enable_thinking`.
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
