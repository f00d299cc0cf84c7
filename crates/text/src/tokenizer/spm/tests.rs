//! Merging by score against the plain reading of the rule.

use proptest::prelude::*;
use reprise_gguf::{Metadata, TokenId, Value};

use super::encode;
use crate::Vocab;

/// A vocabulary of `<unk>`, all byte tokens and these.
fn vocab(tokens: &[(&str, f32)]) -> Vocab {
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6));
    let rows: Vec<(String, f32, i32)> = [("<unk>".to_owned(), 0.0, 2)]
        .into_iter()
        .chain(bytes)
        .chain(tokens.iter().map(|&(text, score)| (text.to_owned(), score, 1)))
        .collect();
    let array = |values: Vec<Value>| Value::Array(values);
    let metadata = Metadata::new([
        ("tokenizer.ggml.model".to_owned(), Value::String("llama".to_owned())),
        (
            "tokenizer.ggml.tokens".to_owned(),
            array(rows.iter().map(|row| Value::String(row.0.clone())).collect()),
        ),
        ("tokenizer.ggml.scores".to_owned(), array(rows.iter().map(|row| Value::F32(row.1)).collect())),
        ("tokenizer.ggml.token_type".to_owned(), array(rows.iter().map(|row| Value::I32(row.2)).collect())),
    ]);
    Vocab::from_metadata(&metadata).expect("a vocabulary")
}

fn texts(vocab: &Vocab, text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    encode(vocab, text, &mut ids);
    ids.into_iter().map(|id| vocab.text(id).to_owned()).collect()
}

#[test]
fn the_best_score_merges_first() {
    let vocab = vocab(&[("a", 0.0), ("b", 0.0), ("c", 0.0), ("ab", -2.0), ("bc", -1.0)]);
    assert_eq!(texts(&vocab, "abc"), ["a", "bc"]);
}

#[test]
fn of_equal_scores_the_leftmost_merges_first() {
    let vocab = vocab(&[("a", 0.0), ("b", 0.0), ("ab", -1.0), ("ba", -1.0)]);
    assert_eq!(texts(&vocab, "aba"), ["ab", "a"]);
    assert_eq!(texts(&vocab, "bab"), ["ba", "b"]);
}

#[test]
fn characters_outside_the_vocabulary_are_bytes_unless_a_token_has_them() {
    let vocab = vocab(&[("a", 0.0), ("é世", -1.0)]);
    assert_eq!(texts(&vocab, "aé"), ["a", "<0xC3>", "<0xA9>"]);
    assert_eq!(texts(&vocab, "aé世"), ["a", "é世"], "both halves are no tokens, the whole is one");
}

#[test]
fn nothing_gives_nothing() {
    assert!(texts(&vocab(&[("a", 0.0)]), "").is_empty());
}

/// Repeats: look at all pairs of neighbours, merge the best.
fn naive(vocab: &Vocab, text: &str) -> Vec<TokenId> {
    let mut symbols: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for left in 0..symbols.len().saturating_sub(1) {
            if let Some(id) = vocab.find(&(symbols[left].clone() + &symbols[left + 1])) {
                let score = vocab.score(id);
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, left));
                }
            }
        }
        let Some((_, left)) = best else { break };
        let right = symbols.remove(left + 1);
        symbols[left] += &right;
    }
    let ids = |symbol: &String| match vocab.find(symbol) {
        Some(id) => vec![id],
        None => symbol.bytes().filter_map(|byte| vocab.byte(byte)).collect(),
    };
    symbols.iter().flat_map(ids).collect()
}

proptest! {
    #[test]
    fn the_queue_is_the_plain_rule(
        text in "[abcé]{0,30}",
        words in prop::collection::btree_map("[abcé]{2,5}", -8i8..0, 0..20),
    ) {
        let tokens: Vec<(&str, f32)> = ["a", "b"].into_iter().map(|letter| (letter, 0.0))
            .chain(words.iter().map(|(word, &score)| (word.as_str(), f32::from(score))))
            .collect();
        let vocab = vocab(&tokens);
        let mut ids = Vec::new();
        encode(&vocab, &text, &mut ids);
        prop_assert_eq!(ids, naive(&vocab, &text));
    }
}
