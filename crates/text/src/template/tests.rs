//! Prompts around the template: BOS, dates, the fallback, messages that go on.

use reprise_gguf::{Metadata, Value as Gg};
use serde_json::{Map, Value, json};

use super::{CHATML, ChatTemplate, Continuation, LocalTime, Reasoning, TemplateInput};
use crate::{TextError, Vocab};

fn metadata(add_bos: bool, template: Option<&str>) -> Metadata {
    let tokens = ["<unk>", "<s>", "</s>"].map(|text| Gg::String(text.to_owned())).to_vec();
    let mut pairs = vec![
        ("tokenizer.ggml.model".to_owned(), Gg::String("llama".to_owned())),
        ("tokenizer.ggml.tokens".to_owned(), Gg::Array(tokens)),
        ("tokenizer.ggml.add_bos_token".to_owned(), Gg::Bool(add_bos)),
    ];
    pairs
        .extend(template.map(|source| ("tokenizer.chat_template".to_owned(), Gg::String(source.to_owned()))));
    Metadata::new(pairs)
}

fn template(add_bos: bool, source: Option<&str>) -> ChatTemplate {
    let metadata = metadata(add_bos, source);
    let vocab = Vocab::from_metadata(&metadata).expect("a vocabulary");
    ChatTemplate::from_metadata(&metadata, &vocab).expect("a template")
}

fn render(
    template: &ChatTemplate,
    messages: &Value,
    continuation: Continuation,
) -> Result<String, TextError> {
    template.render(&TemplateInput {
        messages,
        tools: None,
        add_generation_prompt: true,
        continuation,
        extra: &Map::new(),
        now: LocalTime(1_721_952_000),
    })
}

fn prompt(source: &str, messages: &Value) -> String {
    render(&template(true, Some(source)), messages, Continuation::None).expect("a prompt")
}

fn hi() -> Value {
    json!([{ "role": "user", "content": "Hi" }])
}

#[test]
fn a_file_without_a_template_speaks_chatml() {
    let fallback = template(true, None);
    assert_eq!(fallback.source(), CHATML);
    let text = render(&fallback, &hi(), Continuation::None).expect("a prompt");
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(template(true, Some("chatml")).source(), CHATML);
}

#[test]
fn bos_is_left_to_the_tokenizer_that_adds_it() {
    let source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    for (add_bos, expected) in [(true, "Hi</s>"), (false, "<s>Hi</s>")] {
        let text = render(&template(add_bos, Some(source)), &hi(), Continuation::None);
        assert_eq!(text.expect("a prompt"), expected);
    }
}

#[test]
fn the_last_line_feed_of_a_template_stays() {
    assert_eq!(prompt("{{ messages[0].content }}\n", &hi()), "Hi\n");
}

#[test]
fn dates_are_the_hosts() {
    let source = "{{ date_string }}, {{ datetime }}, {{ strftime_now('%Y-%m-%d') }}";
    assert_eq!(prompt(source, &hi()), "26 Jul 2024, Jul 26 2024, 2024-07-26");
}

#[test]
fn kwargs_win() {
    let extra = Map::from_iter([("bos_token".to_owned(), json!("B")), ("x".to_owned(), json!([1]))]);
    let template = template(false, Some("{{ bos_token }}{{ x[0] }}{{ add_generation_prompt is defined }}"));
    let input = TemplateInput {
        messages: &hi(),
        tools: None,
        add_generation_prompt: false,
        continuation: Continuation::None,
        extra: &extra,
        now: LocalTime::default(),
    };
    assert_eq!(template.render(&input).expect("a prompt"), "B1False");
}

#[test]
fn past_reasoning_is_kept_unless_told_otherwise() {
    let source = "{{ preserve_thinking }}{{ clear_thinking }}";
    assert_eq!(prompt(source, &hi()), "TrueFalse");
    let extra = Map::from_iter([("preserve_reasoning".to_owned(), json!(false))]);
    let input = TemplateInput {
        messages: &hi(),
        tools: None,
        add_generation_prompt: true,
        continuation: Continuation::None,
        extra: &extra,
        now: LocalTime::default(),
    };
    assert_eq!(template(true, Some(source)).render(&input).expect("a prompt"), "FalseTrue");
}

const THINKING: &str = "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}\
    <think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}</>{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn a_message_goes_on_where_it_ends() {
    let answer = json!([{ "role": "user", "content": "Hi" }, { "role": "assistant", "content": "I am" }]);
    let plain = template(true, None);
    let text = render(&plain, &answer, Continuation::Auto).expect("a prompt");
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI am");

    let thinking = template(true, Some(THINKING));
    let text = render(&thinking, &answer, Continuation::Auto).expect("a prompt");
    assert_eq!(text, "<user>Hi</><assistant><think>\n\n</think>\n\nI am");
    let thought = json!([hi()[0], { "role": "assistant", "content": "", "reasoning_content": "So" }]);
    let text = render(&thinking, &thought, Continuation::Auto).expect("a prompt");
    assert_eq!(text, "<user>Hi</><assistant><think>\nSo");
    let text = render(&thinking, &thought, Continuation::Content).expect("a prompt");
    assert_eq!(text, "<user>Hi</><assistant><think>\nSo\n</think>\n\n");
}

#[test]
fn the_markers_of_reasoning_are_found() {
    let markers = Reasoning { start: "<think>\n".to_owned(), end: "\n</think>\n\n".to_owned() };
    assert_eq!(template(true, Some(THINKING)).reasoning(), Some(&markers));
    assert_eq!(template(true, None).reasoning(), None);
    let cuts = "{{ messages[0].content.split('</think>')[-1] }}";
    assert_eq!(template(true, Some(cuts)).reasoning().map(|markers| markers.end.as_str()), Some("</think>"));
}

#[test]
fn thinking_is_on_where_it_can_be_switched() {
    let source = "{% if enable_thinking %}think{% else %}answer{% endif %}";
    assert_eq!(prompt(source, &hi()), "think");
}

#[test]
fn a_template_that_is_none_is_refused() {
    let metadata = metadata(true, Some("{% for %}"));
    let vocab = Vocab::from_metadata(&metadata).expect("a vocabulary");
    assert!(matches!(ChatTemplate::from_metadata(&metadata, &vocab), Err(TextError::Template(_))));
}
