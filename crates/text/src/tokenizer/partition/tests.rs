//! Who gets its place when special tokens meet in a text.

use reprise_gguf::{Metadata, TokenId, Value};

use super::{Fragment, Partition};
use crate::Vocab;

/// Tokens 0 and 1 are plain, the others special: their texts and GGUF types.
fn vocab(special: &[(&str, i32)]) -> Vocab {
    let rows: Vec<(&str, i32)> = [("a", 1), ("b", 1)].iter().chain(special).copied().collect();
    let metadata = Metadata::new([
        ("tokenizer.ggml.model".to_owned(), Value::String("llama".to_owned())),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array(rows.iter().map(|row| Value::String(row.0.to_owned())).collect()),
        ),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(rows.iter().map(|row| Value::I32(row.1)).collect()),
        ),
    ]);
    Vocab::from_metadata(&metadata).expect("a vocabulary")
}

fn split<'a>(special: &[(&str, i32)], text: &'a str, parse: bool) -> Vec<Fragment<'a>> {
    Partition::of(&vocab(special)).expect("a partition").split(text, parse)
}

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

fn token(id: u32) -> Fragment<'static> {
    Fragment::Token(TokenId(id))
}

#[test]
fn control_tokens_are_found_on_request_user_defined_ones_always() {
    let special = [("<c>", CONTROL), ("<u>", USER_DEFINED)];
    assert_eq!(split(&special, "x<c><u>", true), [Fragment::Text("x"), token(2), token(3)]);
    assert_eq!(split(&special, "x<c><u>", false), [Fragment::Text("x<c>"), token(3)]);
}

#[test]
fn the_longest_wins_wherever_it_stands() {
    let special = [("ab", CONTROL), ("bcd", CONTROL)];
    assert_eq!(split(&special, "abcd", true), [Fragment::Text("a"), token(3)]);
}

#[test]
fn of_one_token_the_leftmost_places_win() {
    let special = [("xx", USER_DEFINED)];
    assert_eq!(split(&special, "xxxxx", true), [token(2), token(2), Fragment::Text("x")]);
}

#[test]
fn runs_go_to_the_longest_that_fits() {
    let special = [("\n", USER_DEFINED), ("\n\n", USER_DEFINED), ("\n\n\n", USER_DEFINED)];
    assert_eq!(split(&special, "\n\n\n\n\n", false), [token(4), token(3)]);
}

#[test]
fn a_text_without_any_is_one_fragment() {
    assert_eq!(split(&[], "text", true), [Fragment::Text("text")]);
    assert_eq!(split(&[("<c>", CONTROL)], "", true), []);
}

/// The rule as it is stated: one token after the other, longest first, each in what is left of the text.
fn naive<'a>(vocab: &Vocab, text: &'a str) -> Vec<Fragment<'a>> {
    let mut special: Vec<TokenId> = vocab.ids().skip(2).collect();
    special.sort_by_key(|&id| std::cmp::Reverse(vocab.text(id).len()));
    let mut fragments = if text.is_empty() { vec![] } else { vec![Fragment::Text(text)] };
    for id in special {
        let cut = |fragment| match fragment {
            Fragment::Token(_) => vec![fragment],
            Fragment::Text(text) => {
                let mut parts = Vec::new();
                for (index, part) in text.split(vocab.text(id)).enumerate() {
                    if index > 0 {
                        parts.push(Fragment::Token(id));
                    }
                    if !part.is_empty() {
                        parts.push(Fragment::Text(part));
                    }
                }
                parts
            }
        };
        fragments = fragments.into_iter().flat_map(cut).collect();
    }
    fragments
}

proptest::proptest! {
    #[test]
    fn it_is_the_stated_rule(
        text in "[xyz]{0,20}",
        special in proptest::collection::btree_set("[xyz]{1,5}", 0..6),
    ) {
        let rows: Vec<(&str, i32)> = special.iter().map(|text| (text.as_str(), USER_DEFINED)).collect();
        let vocab = vocab(&rows);
        let fragments = Partition::of(&vocab).expect("a partition").split(&text, true);
        proptest::prop_assert_eq!(fragments, naive(&vocab, &text));
    }
}
