//! What a template can express, found by rendering conversations and watching what it looks at.

use minijinja::Value as Jinja;
use minijinja::value::Kwargs;
use serde_json::{Map, Value, json};

use super::environment;
use super::probe::Looks;
use crate::TextError;

/// Abilities of a template, as llama-server reports them in `/props`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    /// Content may be a text.
    pub(super) string_content: bool,
    /// Content may be an array of parts.
    pub(super) typed_content: bool,
    /// Tools are described to the model.
    pub(super) tools: bool,
    /// Calls of tools in past answers are shown.
    pub(super) tool_calls: bool,
    /// Several calls in one answer are shown.
    pub(super) parallel_tool_calls: bool,
    /// Arguments of calls must be objects, not JSON texts.
    pub(super) object_arguments: bool,
    /// System messages are shown.
    pub(super) system_role: bool,
    /// The reasoning of past answers can be kept.
    pub(super) preserve_reasoning: bool,
    /// The effort of reasoning can be set.
    pub(super) reasoning_effort: bool,
}

/// Sets the variables by which templates are told to keep the reasoning of past answers, or to drop it.
pub(super) fn preserve_reasoning(keep: bool, set: &mut dyn FnMut(&str, Value) -> Option<Value>) {
    set("preserve_thinking", keep.into());
    for name in ["clear_thinking", "truncate_history_thinking", "drop_thinking"] {
        set(name, (!keep).into());
    }
}

impl Caps {
    /// Renders the conversations. A template that refuses one of them only says no to what it asks.
    pub(super) fn of(source: &str) -> Result<Self, TextError> {
        let trial = Trial { source };
        let (string_content, typed_content) = trial.content()?;
        let system_role = trial
            .run(&json!([{ "role": "system", "content": "System message" }, user()]), Map::new())?
            .looked_at("messages/0/content");
        let calls = trial.calls()?;
        let past = trial.run(
            &json!([user(), reasoned(PAST_REASONING), user(), reasoned("Reasoning content"), user()]),
            thinking(|set| preserve_reasoning(true, set)),
        )?;
        let effort = trial.run(
            &json!([user()]),
            thinking(|set| {
                set("reasoning_effort", "low".into());
                set("reasoning_strength", "low".into());
            }),
        )?;
        Ok(Self {
            string_content,
            typed_content,
            system_role,
            preserve_reasoning: past.text.is_some_and(|text| text.contains(PAST_REASONING)),
            reasoning_effort: effort.looks.at("reasoning_effort") || effort.looks.at("reasoning_strength"),
            ..calls
        })
    }

    /// The object of `/props`.
    pub(super) fn to_json(self) -> Value {
        json!({
            "supports_object_arguments": self.object_arguments,
            "supports_parallel_tool_calls": self.parallel_tool_calls,
            "supports_preserve_reasoning": self.preserve_reasoning,
            "supports_reasoning_effort": self.reasoning_effort,
            "supports_string_content": self.string_content,
            "supports_system_role": self.system_role,
            "supports_tool_calls": self.tool_calls,
            "supports_tools": self.tools,
            "supports_typed_content": self.typed_content,
        })
    }
}

const PAST_REASONING: &str = "<REASONING_CONTENT_PLACEHOLDER>";
const CONTENT: &str = "STRING_MARKER";

fn user() -> Value {
    json!({ "role": "user", "content": "User message" })
}

fn reasoned(reasoning: &str) -> Value {
    json!({ "role": "assistant", "content": "Assistant message", "reasoning_content": reasoning })
}

fn thinking(add: impl FnOnce(&mut dyn FnMut(&str, Value) -> Option<Value>)) -> Map<String, Value> {
    let mut variables = Map::new();
    let mut set = |name: &str, value: Value| variables.insert(name.to_owned(), value);
    set("enable_thinking", true.into());
    add(&mut set);
    variables
}

/// Renders one template under observation.
struct Trial<'a> {
    source: &'a str,
}

/// What came of it.
struct Outcome {
    looks: Looks,
    /// `None` when the template refused.
    text: Option<String>,
}

impl Outcome {
    fn looked_at(&self, path: &str) -> bool {
        self.looks.at(path)
    }

    fn looked_into(&self, path: &str) -> bool {
        self.looks.at(&(path.to_owned() + Looks::ELEMENTS))
    }
}

impl Trial<'_> {
    fn run(&self, messages: &Value, extra: Map<String, Value>) -> Result<Outcome, TextError> {
        let mut variables = Map::new();
        variables.insert("messages".to_owned(), messages.clone());
        variables.insert("tools".to_owned(), json!([]));
        variables.insert("bos_token".to_owned(), "".into());
        variables.insert("eos_token".to_owned(), "".into());
        variables.insert("add_generation_prompt".to_owned(), true.into());
        variables.extend(extra);

        let looks = Looks::default();
        let mut environment = environment::with_template(self.source)?;
        // Printing a whole array is not looking at its elements; the texts are all that is asked for.
        environment.set_formatter(|out, _, value| {
            out.write_str(value.as_str().unwrap_or_default()).map_err(Into::into)
        });
        let whole = |value: &Jinja| {
            Looks::note_whole(value);
            value.to_string()
        };
        environment.add_filter("string", whole);
        environment.add_filter("tojson", move |value: &Jinja, _style: Kwargs| whole(value));
        let tests = looks.clone();
        environment.add_test("string", move |value: &Jinja| {
            if value.as_str() == Some(CONTENT) {
                tests.note(CONTENT);
            }
            value.as_str().is_some()
        });
        let text = environment::render_with(&environment, &looks.wrap("", &Value::Object(variables))).ok();
        Ok(Outcome { looks, text })
    }

    /// Whether content may be a text, and whether it may be an array of parts.
    fn content(&self) -> Result<(bool, bool), TextError> {
        let text = self.run(&json!([{ "role": "user", "content": CONTENT }]), Map::new())?;
        let parts = self.run(&json!([{ "role": "user", "content": [] }]), Map::new())?;
        let distinguishes = text.looks.at(CONTENT);
        let loops = parts.looked_into("messages/0/content");
        // A template that loops over content, whatever it is given, makes nothing of a text.
        let lost = loops && !distinguishes && !text.text.as_ref().is_some_and(|text| text.contains(CONTENT));
        let typed = lost || loops && distinguishes && parts.text.is_some();
        let string = text.text.is_some() && !lost;
        Ok((string, typed))
    }

    /// The abilities around tools; the others are left off.
    fn calls(&self) -> Result<Caps, TextError> {
        let mut caps = Caps {
            string_content: false,
            typed_content: false,
            tools: true,
            tool_calls: true,
            parallel_tool_calls: true,
            object_arguments: false,
            system_role: false,
            preserve_reasoning: false,
            reasoning_effort: false,
        };
        let object = json!({ "arg": "value" });
        let text = Value::from(object.to_string());

        let with_object = self.run(&conversation(&[&object]), with_tools())?;
        if with_object.text.is_some() {
            caps.tools = with_object.looked_at(TOOL_NAME);
            caps.tool_calls = with_object.looked_at(TOOL_CALLS);
            caps.object_arguments = with_object.looked_at(ARGUMENT);
        }
        if !caps.object_arguments {
            let with_text = self.run(&conversation(&[&text]), with_tools())?;
            caps.tools &= with_text.text.is_some() && with_text.looked_at(TOOL_NAME);
            caps.tool_calls &= with_text.text.is_some() && with_text.looked_at(TOOL_CALLS);
        }
        let arguments = if caps.object_arguments { &object } else { &text };
        let parallel = self.run(&conversation(&[arguments, arguments]), with_tools())?;
        caps.parallel_tool_calls = parallel.text.is_some() && parallel.looked_at(SECOND_CALL);
        Ok(caps)
    }
}

const TOOL_NAME: &str = "tools/0/function/name";
const TOOL_CALLS: &str = "messages/1/tool_calls";
const ARGUMENT: &str = "messages/1/tool_calls/0/function/arguments/arg";
const SECOND_CALL: &str = "messages/1/tool_calls/1/function";

/// A conversation in which the model calls a tool once for each of these arguments.
fn conversation(arguments: &[&Value]) -> Value {
    let call = |(index, arguments): (usize, &&Value)| {
        json!({
            "id": format!("call0000{}", index + 1),
            "type": "function",
            "function": { "name": "tool1", "arguments": arguments },
        })
    };
    let calls: Value = arguments.iter().enumerate().map(call).collect();
    json!([
        user(),
        { "role": "assistant", "content": "", "tool_calls": calls },
        { "role": "tool", "content": "Tool response", "tool_call_id": "call00001" },
        { "role": "assistant", "content": "The tool response was 'tool response'" },
        user(),
    ])
}

fn with_tools() -> Map<String, Value> {
    let tools = json!([{
        "name": "tool",
        "type": "function",
        "function": {
            "name": "tool1",
            "description": "Tool description",
            "parameters": {
                "type": "object",
                "properties": { "arg": { "type": "string", "description": "Arg description" } },
                "required": ["arg"],
            },
        },
    }]);
    Map::from_iter([("tools".to_owned(), tools)])
}

#[cfg(test)]
mod tests;
