//! Agreement with llama-server on what it said (`tests/data`): ids, texts, pieces and prompts, to the letter.
//!
//! Two made-up vocabularies are in the data and need nothing else. The real models are read from the folder that
//! `REPRISE_MODELS` names; those tests are ignored unless asked for.

mod support;

use reprise_text::Special;
use serde_json::Value;
use support::{Recording, ids};

#[test]
fn byte_level_vocabulary_in_every_pre_tokenizer() {
    let recording = Recording::of("tiny_bpe");
    for pre in ["default", "llama-bpe", "dbrx", "qwen2", "smollm", "gpt-2", "tekken"] {
        let text = recording.text(&[("pre", pre.into())]);
        recording.check_tiny(&text, pre);
    }
}

#[test]
fn scored_vocabulary_with_every_rule() {
    let recording = Recording::of("tiny_spm");
    for (case, rules) in [
        ("prefix", vec![]),
        ("no_prefix", vec![("add_space_prefix", false.into()), ("add_eos_token", true.into())]),
        ("no_bos", vec![("add_bos_token", false.into())]),
    ] {
        let text = recording.text(&rules);
        recording.check_tiny(&text, case);
    }
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn smollm2() {
    check_model("smollm2");
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn gemma3() {
    check_model("gemma3");
}

fn check_model(name: &str) {
    let recording = Recording::of(name);
    let text = recording.model();
    let tokenizer = &text.tokenizer;
    let special = |add, parse| Special { add, parse };
    for row in recording.rows("encode") {
        let input = row["text"].as_str().expect("a text");
        for (key, special) in [
            ("plain", special(false, false)),
            ("parsed", special(false, true)),
            ("full", special(true, true)),
        ] {
            assert_eq!(tokenizer.encode(input, special), ids(&row[key]), "{key} tokens of {input:?}");
        }
    }
    for row in recording.rows("decode") {
        assert_eq!(tokenizer.decode(&ids(&row["tokens"])), row["text"], "{}", row["tokens"]);
    }
    for row in recording.rows("prompts") {
        assert_eq!(tokenizer.prompt_text(&ids(&row["tokens"])), row["text"], "{}", row["tokens"]);
    }
    for row in recording.rows("pieces") {
        let id = ids(&Value::Array(vec![row["id"].clone()]))[0];
        let bytes = match &row["piece"] {
            Value::String(text) => text.as_bytes().to_vec(),
            bytes => serde_json::from_value(bytes.clone()).expect("bytes"),
        };
        assert_eq!(tokenizer.piece(id), bytes, "piece of {id}");
    }
    for row in recording.rows("chats") {
        support::check_chat(name, &text.template, &row["request"], &row["answer"]);
    }
    assert_eq!(text.template.caps(), *recording.value("caps"));
    assert_eq!(tokenizer.decode(tokenizer.vocab().bos.as_slice()), *recording.value("bos_token"));
    assert_eq!(tokenizer.decode(tokenizer.vocab().eos.as_slice()), *recording.value("eos_token"));
}
