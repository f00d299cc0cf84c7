//! Reads recordings and builds what they were recorded on.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;

use reprise_gguf::{Gguf, MemorySource, Metadata, TokenId, Value as Gg};
use reprise_text::{ChatTemplate, Continuation, LocalTime, Special, TemplateInput, Text};
use serde_json::{Map, Value, json};

/// Ids of a JSON array.
pub(crate) fn ids(array: &Value) -> Vec<TokenId> {
    let ids: Vec<u32> = serde_json::from_value(array.clone()).expect("an array of ids");
    ids.into_iter().map(TokenId).collect()
}

/// The text part of a model with this metadata.
pub(crate) fn text<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Gg)>) -> Text {
    let metadata = Metadata::new(pairs.into_iter().map(|(key, value)| (key.into(), value)));
    Text::from_metadata(&metadata).expect("the vocabulary loads")
}

/// One file of `tests/data`.
pub(crate) struct Recording(Value);

impl Recording {
    pub(crate) fn of(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).with_extension("json");
        Self(serde_json::from_slice(&read(&path)).expect("a recording is JSON"))
    }

    pub(crate) fn value(&self, key: &str) -> &Value {
        &self.0[key]
    }

    pub(crate) fn rows(&self, key: &str) -> &[Value] {
        self.0[key].as_array().expect("rows")
    }

    fn strings(&self, key: &str) -> Vec<Gg> {
        self.rows(key).iter().map(|text| Gg::String(text.as_str().expect("a text").to_owned())).collect()
    }

    /// The made-up vocabulary of the recording, with these further `tokenizer.ggml.` keys.
    pub(crate) fn text(&self, rules: &[(&str, Rule)]) -> Text {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let types =
            self.rows("types").iter().map(|kind| Gg::I32(kind.as_i64().expect("a type") as i32)).collect();
        let mut pairs =
            vec![(key("tokens"), Gg::Array(self.strings("tokens"))), (key("token_type"), Gg::Array(types))];
        if self.0["merges"].is_array() {
            pairs.push((key("model"), Gg::String("gpt2".to_owned())));
            pairs.push((key("merges"), Gg::Array(self.strings("merges"))));
        } else {
            let scores =
                self.rows("scores").iter().map(|score| Gg::F32(score.as_f64().expect("a score") as f32));
            pairs.push((key("model"), Gg::String("llama".to_owned())));
            pairs.push((key("scores"), Gg::Array(scores.collect())));
        }
        pairs.extend(rules.iter().map(|(name, rule)| (key(name), rule.0.clone())));
        text(pairs)
    }

    /// The text part of the real model that the recording was made on.
    pub(crate) fn model(&self) -> Text {
        let folder =
            std::env::var_os("REPRISE_MODELS").expect("REPRISE_MODELS names the folder of the models");
        let path = Path::new(&folder).join(self.0["model"].as_str().expect("a file name"));
        let source = MemorySource(read(&path).into());
        let gguf = futures::executor::block_on(Gguf::open(&source)).expect("a GGUF file");
        Text::from_metadata(&gguf.metadata).expect("the vocabulary loads")
    }

    /// Compares one case of a made-up vocabulary.
    pub(crate) fn check_tiny(&self, text: &Text, case: &str) {
        let tokenizer = &text.tokenizer;
        let texts = self.rows("texts").iter().map(|text| text.as_str().expect("a text"));
        let expected = self.0["expected"][case].as_array().expect("tokens");
        for (input, tokens) in texts.clone().zip(expected) {
            let special = Special { add: true, parse: true };
            assert_eq!(tokenizer.encode(input, special), ids(tokens), "{case}: tokens of {input:?}");
        }
        let plain = self.0["expected"][format!("{case}/plain")].as_array().expect("tokens");
        for (input, tokens) in texts.zip(plain) {
            let special = Special::default();
            assert_eq!(tokenizer.encode(input, special), ids(tokens), "{case}: plain tokens of {input:?}");
        }
        for (tokens, prompt) in expected.iter().zip(self.0["prompts"][case].as_array().expect("prompts")) {
            if let Some(prompt) = prompt.as_str() {
                assert_eq!(tokenizer.prompt_text(&ids(tokens)), prompt, "{case}: {tokens}");
            }
        }
    }
}

/// A metadata value of a rule.
pub(crate) struct Rule(Gg);

impl From<&str> for Rule {
    fn from(text: &str) -> Self {
        Self(Gg::String(text.to_owned()))
    }
}

impl From<bool> for Rule {
    fn from(on: bool) -> Self {
        Self(Gg::Bool(on))
    }
}

/// Renders a request of `/apply-template` and compares.
pub(crate) fn check_chat(case: &str, template: &ChatTemplate, request: &Value, answer: &Value) {
    let empty = Map::new();
    let messages = &request["messages"];
    let prefills =
        messages.as_array().and_then(|all| all.last()).is_some_and(|last| last["role"] == "assistant");
    let input = TemplateInput {
        messages,
        tools: request.get("tools"),
        add_generation_prompt: request["add_generation_prompt"] != json!(false),
        continuation: if prefills { Continuation::Auto } else { Continuation::None },
        extra: request["chat_template_kwargs"].as_object().unwrap_or(&empty),
        now: LocalTime::default(),
    };
    match (template.render(&input), answer["prompt"].as_str()) {
        (Ok(prompt), Some(expected)) => assert_eq!(prompt, expected, "{case}: {request}"),
        (Err(_), None) => {}
        (outcome, _) => panic!("{case}: {outcome:?} for {request}, the reference says {answer}"),
    }
}

#[allow(clippy::disallowed_methods, reason = "a test is a host")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
