//! Whole tokenizers over small vocabularies.

use proptest::prelude::*;
use reprise_gguf::{Metadata, TokenId, Value};

use super::{Special, Tokenizer};
use crate::TextError;

fn strings(texts: impl IntoIterator<Item = String>) -> Value {
    Value::Array(texts.into_iter().map(Value::String).collect())
}

/// The 256 characters of byte-level BPE in the order of their bytes.
fn alphabet() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut shifted = 0x100..;
    (0..256)
        .filter_map(|byte| if printable(byte) { Some(byte) } else { shifted.next() })
        .filter_map(char::from_u32)
        .map(String::from)
        .collect()
}

/// A byte-level vocabulary: all bytes, then what these merges make, then `<|end|>`.
fn bpe(pre: &str, merges: &[&str]) -> Metadata {
    let made = merges.iter().map(|merge| merge.replace(' ', ""));
    let tokens: Vec<String> = alphabet().into_iter().chain(made).chain(["<|end|>".to_owned()]).collect();
    let types =
        (0..tokens.len()).map(|index| Value::I32(if index + 1 == tokens.len() { 3 } else { 1 })).collect();
    Metadata::new([
        ("tokenizer.ggml.model".to_owned(), Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre".to_owned(), Value::String(pre.to_owned())),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(types)),
        ("tokenizer.ggml.tokens".to_owned(), strings(tokens)),
        ("tokenizer.ggml.merges".to_owned(), strings(merges.iter().map(|&merge| merge.to_owned()))),
    ])
}

fn without(metadata: &Metadata, key: &str) -> Metadata {
    let rest = metadata.iter().filter(|(name, _)| *name != key);
    Metadata::new(rest.map(|(name, value)| (name.to_owned(), value.clone())))
}

fn with(metadata: &Metadata, key: &str, value: Value) -> Metadata {
    let rest = metadata.iter().map(|(name, value)| (name.to_owned(), value.clone()));
    Metadata::new(rest.chain([(key.to_owned(), value)]))
}

fn load(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).expect("the vocabulary loads")
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, Special { add: false, parse: true });
    ids.into_iter().map(|id| tokenizer.decode(&[id])).collect()
}

#[test]
fn merges_apply_in_the_order_of_the_file() {
    let tokenizer = load(&bpe("gpt-2", &["b c", "a b", "a bc"]));
    assert_eq!(pieces(&tokenizer, "abc ab"), ["abc", " ", "ab"]);
}

#[test]
fn patterns_keep_merges_apart() {
    let merges = ["1 2", "12 3", "a 1"];
    assert_eq!(pieces(&load(&bpe("gpt-2", &merges)), "a123"), ["a", "123"]);
    assert_eq!(pieces(&load(&bpe("smollm", &merges)), "a123"), ["a", "1", "2", "3"]);
}

#[test]
fn control_tokens_render_as_text_but_generate_nothing() {
    let tokenizer = load(&bpe("gpt-2", &["a b"]));
    let end = tokenizer.encode("<|end|>", Special { add: false, parse: true });
    assert_eq!(end.len(), 1);
    assert_eq!(tokenizer.piece(end[0]), b"<|end|>");
    assert_eq!(tokenizer.piece_plain(end[0]), b"");
    assert!(tokenizer.vocab().is_control(end[0]) && tokenizer.vocab().is_eog(end[0]));
    assert_eq!(tokenizer.encode("<|end|>", Special::default()).len(), 7);
}

#[test]
fn the_line_feed_is_found() {
    let tokenizer = load(&bpe("llama-bpe", &["a b"]));
    assert_eq!(tokenizer.vocab().nl, Some(TokenId(10)));
    assert_eq!(tokenizer.piece(TokenId(10)), b"\n");
}

#[test]
fn an_id_outside_the_vocabulary_stands_for_nothing() {
    let tokenizer = load(&bpe("gpt-2", &["a b"]));
    assert_eq!(tokenizer.piece(TokenId(u32::MAX)), b"");
    assert_eq!(tokenizer.piece_plain(TokenId(1_000_000)), b"");
    assert_eq!(tokenizer.decode(&[TokenId(u32::MAX), TokenId(0x41)]), "A");
}

#[test]
fn a_long_run_without_a_break_is_tokenised() {
    let tokenizer = load(&bpe("llama-bpe", &["Ġ Ġ"]));
    let ids = tokenizer.encode(&" ".repeat(200_000), Special::default());
    assert_eq!(ids.len(), 100_000);
}

#[test]
fn bad_vocabularies_are_named() {
    let good = bpe("gpt-2", &["a b"]);
    let error = |metadata: &Metadata| Tokenizer::from_metadata(metadata).expect_err("refused").to_string();
    let key = |name: &str| format!("tokenizer.ggml.{name}");

    assert!(error(&without(&good, &key("merges"))).contains("needs tokenizer.ggml.merges"));
    assert!(error(&without(&good, &key("tokens"))).contains("tokenizer.ggml.tokens"));
    assert!(error(&without(&good, &key("model"))).contains("tokenizer.ggml.model"));
    let other = |name: &str, value: Value| error(&with(&good, &key(name), value));
    assert!(other("model", Value::String("t5".to_owned())).contains("'t5'"));
    assert!(other("pre", Value::String("klingon".to_owned())).contains("'klingon'"));
    assert!(other("merges", strings(["ab".to_owned()])).contains("\"ab\""));
    assert!(other("tokens", strings([])).contains("empty"));
    assert!(other("tokens", strings(["a".to_owned(), "a".to_owned()])).contains("tokens 0 and 1"));
    assert!(other("token_type", Value::Array(vec![Value::I32(1)])).contains("1 entries for 258 tokens"));
    assert!(other("scores", Value::Array(vec![Value::F32(f32::NAN); 258])).contains("score"));
    assert!(matches!(
        Tokenizer::from_metadata(&with(&good, &key("tokens"), Value::U32(7))),
        Err(TextError::Metadata(_))
    ));
}

#[test]
fn a_special_id_outside_the_vocabulary_is_ignored() {
    let metadata = with(&bpe("gpt-2", &["a b"]), "tokenizer.ggml.eos_token_id", Value::U32(9999));
    assert_eq!(load(&metadata).vocab().eos, Some(TokenId(11)), "the default of the family");
}

proptest! {
    #[test]
    fn byte_level_text_comes_back(text in "\\PC{0,40}", spaces in "[ \\r\\n\\tab1'é世]{0,20}") {
        let text = text + &spaces;
        for pre in ["default", "llama-bpe", "qwen2", "smollm", "tekken"] {
            let tokenizer = load(&bpe(pre, &["a b", "Ġ a", "Ġ Ġ", "Ċ Ċ", "Ã ©", "1 1"]));
            let ids = tokenizer.encode(&text, Special::default());
            prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
        }
    }
}
