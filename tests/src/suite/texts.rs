//! Names in requests: `${name}` stands for a text of the scenario, `${step/pointer}` for a part of an earlier answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::check::lookup;

/// A named text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it stands.
    Plain(String),
    /// A text many times over, for prompts that have to be long.
    Repeated {
        /// What is repeated.
        repeat: String,
        /// How often.
        times: usize,
    },
}

/// Answers of earlier steps by step name.
pub(super) type Answers = BTreeMap<String, Value>;

/// Puts texts and parts of answers in the place of their names. A string that is nothing but one name becomes the named
/// value itself, which need not be a string.
///
/// # Errors
/// When a name means nothing.
pub(super) fn fill(value: &Value, texts: &BTreeMap<String, Text>, answers: &Answers) -> Result<Value> {
    Ok(match value {
        Value::String(text) => fill_string(text, texts, answers)?,
        Value::Array(elements) => {
            elements.iter().map(|element| fill(element, texts, answers)).collect::<Result<_>>()?
        }
        Value::Object(fields) => {
            let filled = fields.iter().map(|(key, value)| Ok((key.clone(), fill(value, texts, answers)?)));
            Value::Object(filled.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn fill_string(text: &str, texts: &BTreeMap<String, Text>, answers: &Answers) -> Result<Value> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, name, after)) = split_at_name(rest) {
        let value = named(name, texts, answers)?;
        if before.is_empty() && after.is_empty() && filled.is_empty() {
            return Ok(value);
        }
        filled.push_str(before);
        match value {
            Value::String(text) => filled.push_str(&text),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled.into())
}

/// What stands before the first name, the name, and what stands after it.
fn split_at_name(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

fn named(name: &str, texts: &BTreeMap<String, Text>, answers: &Answers) -> Result<Value> {
    if let Some(text) = texts.get(name) {
        return Ok(match text {
            Text::Plain(text) => text.as_str().into(),
            Text::Repeated { repeat, times } => repeat.repeat(*times).into(),
        });
    }
    let Some((step, path)) = name.split_once('/') else { bail!("no text is called '{name}'") };
    let answer = answers.get(step).with_context(|| format!("'{name}': no such step has been done"))?;
    lookup(answer, path).cloned().with_context(|| format!("'{name}': there is no such thing in the answer"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_filled_in() {
        let texts = BTreeMap::from([
            ("A".to_owned(), Text::Plain("river".to_owned())),
            ("long".to_owned(), Text::Repeated { repeat: "ab".to_owned(), times: 3 }),
        ]);
        let answers =
            Answers::from([("first turn".to_owned(), json!({"content": " bank", "tokens": [1, 2]}))]);
        let fill = |value| fill(&value, &texts, &answers);

        let filled = fill(json!({"prompt": "The ${A}${first turn/content}, ${long}", "n": 1})).unwrap();
        assert_eq!(filled, json!({"prompt": "The river bank, ababab", "n": 1}));
        assert_eq!(fill(json!(["${first turn/tokens}"])).unwrap(), json!([[1, 2]]));
        assert_eq!(fill(json!("costs $5 {x}")).unwrap(), json!("costs $5 {x}"));
        assert!(fill(json!("${B}")).is_err());
        assert!(fill(json!("${second/content}")).is_err());
        assert!(fill(json!("${first turn/nope}")).is_err());
    }
}
