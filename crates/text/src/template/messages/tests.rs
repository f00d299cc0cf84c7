//! What counts as a message, and what templates get to see of it.

use serde_json::{Value, json};

use super::{parse, parse_tools, prepare};
use crate::TextError;
use crate::template::caps::Caps;

/// A template that knows texts, roles and calls with JSON texts.
const PLAIN: Caps = Caps {
    string_content: true,
    typed_content: false,
    tools: true,
    tool_calls: true,
    parallel_tool_calls: true,
    object_arguments: false,
    system_role: true,
    preserve_reasoning: false,
    reasoning_effort: false,
};

fn prepared(messages: &Value, caps: Caps) -> Result<Value, TextError> {
    prepare(&parse(messages)?, &caps, "")
}

#[test]
fn parts_of_text_join_where_only_text_is_known() {
    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }]);
    assert_eq!(prepared(&messages, PLAIN).expect("valid")[0]["content"], "a\nb");
    let typed = Caps { typed_content: true, ..PLAIN };
    assert_eq!(prepared(&messages, typed).expect("valid")[0]["content"], messages[0]["content"]);
}

#[test]
fn text_becomes_a_part_where_only_parts_are_known() {
    let typed = Caps { typed_content: true, string_content: false, ..PLAIN };
    let messages = prepared(&json!([{ "role": "user", "content": "a" }]), typed).expect("valid");
    assert_eq!(messages[0]["content"], json!([{ "type": "text", "text": "a" }]));
}

#[test]
fn missing_content_is_empty_and_unknown_fields_go() {
    let messages = prepared(&json!([{ "role": "user", "content": null, "x": 1, "name": "n" }]), PLAIN);
    assert_eq!(messages.expect("valid"), json!([{ "role": "user", "content": "", "name": "n" }]));
}

#[test]
fn a_system_message_moves_where_there_is_no_such_role() {
    let caps = Caps { system_role: false, ..PLAIN };
    let messages = json!([{ "role": "developer", "content": "S" }, { "role": "user", "content": "U" }]);
    let merged = prepared(&messages, caps).expect("valid");
    assert_eq!(merged, json!([{ "role": "user", "content": "S\nU" }]));
    let alone = prepared(&json!([{ "role": "system", "content": "S" }]), caps).expect("valid");
    assert_eq!(alone, json!([]));
}

#[test]
fn arguments_are_what_the_template_wants() {
    let messages = |arguments: Value| {
        let call =
            json!({ "type": "function", "id": "1", "function": { "name": "f", "arguments": arguments } });
        json!([{ "role": "assistant", "tool_calls": [call] }])
    };
    let arguments = |messages: &Value| messages[0]["tool_calls"][0]["function"]["arguments"].clone();
    let objects = Caps { object_arguments: true, ..PLAIN };
    let text = prepared(&messages(json!({ "a": 1 })), PLAIN).expect("valid");
    assert_eq!(arguments(&text), r#"{"a":1}"#);
    let object = prepared(&messages(json!("{\"a\":1}")), objects).expect("valid");
    assert_eq!(arguments(&object), json!({ "a": 1 }));
    let error = prepared(&messages(json!("{a")), objects).expect_err("not JSON");
    assert!(error.to_string().contains("Failed to parse tool call arguments as JSON"), "{error}");
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    let part = |part: Value| json!([{ "role": "user", "content": [part] }]);
    let call = |call: Value| json!([{ "role": "assistant", "tool_calls": [call] }]);
    for (messages, reason) in [
        (json!({}), "Expected 'messages' to be an array, got {}"),
        (json!([1]), "Expected 'message' to be an object, got 1"),
        (json!([{ "content": "x" }]), r#"Missing 'role' in message: {"content":"x"}"#),
        (json!([{ "role": 1, "content": "x" }]), "Expected 'role' to be a string, got 1"),
        (json!([{ "role": "user" }]), "Expected 'content' or 'tool_calls'"),
        (
            json!([{ "role": "user", "content": 1 }]),
            "Invalid 'content' type: expected string or array, got 1",
        ),
        (part(json!({ "text": "x" })), r#"Missing content part type: {"text":"x"}"#),
        (part(json!({ "type": "image_url" })), r#"Unsupported content part type: "image_url""#),
        (part(json!({ "type": "text" })), r#"Missing text of a content part: {"type":"text"}"#),
        (call(json!({})), "Missing tool call type: {}"),
        (call(json!({ "type": "x" })), r#"Unsupported tool call type: {"type":"x"}"#),
        (call(json!({ "type": "function" })), r#"Missing tool call function: {"type":"function"}"#),
    ] {
        let error = parse(&messages).expect_err("no message");
        assert_eq!(error.to_string(), format!("Failed to parse messages: {reason}"));
    }
}

#[test]
fn tools_are_reduced_to_what_templates_know() {
    let tools = json!([{ "type": "function", "function": { "name": "f", "strict": true } }]);
    let expected =
        json!([{ "type": "function", "function": { "name": "f", "description": "", "parameters": {} } }]);
    assert_eq!(parse_tools(&tools).expect("valid"), expected);
    assert_eq!(parse_tools(&Value::Null).expect("none"), json!([]));
    for tools in
        [json!({}), json!([{}]), json!([{ "type": "x" }]), json!([{ "type": "function", "function": {} }])]
    {
        assert!(matches!(parse_tools(&tools), Err(TextError::Tools(_))), "{tools}");
    }
}
