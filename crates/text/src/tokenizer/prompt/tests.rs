//! The clean-up passes, each on its own.

use super::{contractions, lone_apostrophes, punctuation};

fn as_text(pass: fn(&[u8]) -> Vec<u8>, text: &str) -> String {
    String::from_utf8(pass(text.as_bytes())).expect("text")
}

#[test]
fn spaces_before_punctuation_go() {
    assert_eq!(as_text(punctuation, "Well , no . Yes ! Why ?  ."), "Well, no. Yes! Why? .");
    assert_eq!(as_text(punctuation, ". ;"), ". ;");
}

#[test]
fn an_apostrophe_between_spaces_loses_both() {
    assert_eq!(as_text(lone_apostrophes, "rock ' roll 'n' ' "), "rock'roll 'n''");
    assert_eq!(as_text(lone_apostrophes, "a ' ' b"), "a'' b");
}

#[test]
fn some_contractions_lose_their_space() {
    assert_eq!(as_text(contractions, "it 's I 'm we 're 've"), "it's I'm we're've");
    assert_eq!(as_text(contractions, "do 't he 'd 'll 'r"), "do 't he 'd 'll 'r");
}
