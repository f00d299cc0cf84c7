//! Pieces of text come out whole, whatever the chunks were.

use proptest::prelude::*;

use super::Detokenizer;

#[test]
fn a_character_waits_for_its_last_byte() {
    let mut detokenizer = Detokenizer::new();
    assert_eq!(detokenizer.push(b"a\xf0\x9f"), "a");
    assert_eq!(detokenizer.pending(), 2);
    assert_eq!(detokenizer.push(b"\x98"), "");
    assert_eq!(detokenizer.pending(), 3);
    assert_eq!(detokenizer.push(b"\x80!"), "😀!");
    assert_eq!(detokenizer.pending(), 0);
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn bytes_that_can_never_be_text_are_replaced_at_once() {
    let mut detokenizer = Detokenizer::new();
    assert_eq!(detokenizer.push(b"\xff"), "\u{fffd}");
    assert_eq!(detokenizer.push(b"\xe4\xb8"), "");
    assert_eq!(detokenizer.push(b"x"), "\u{fffd}x");
    // A surrogate's first two bytes are no prefix of anything.
    assert_eq!(detokenizer.push(b"\xed\xa0"), "\u{fffd}\u{fffd}");
}

#[test]
fn the_end_replaces_what_is_held_back() {
    let mut detokenizer = Detokenizer::new();
    assert_eq!(detokenizer.push(b"\xf0\x9f\x98"), "");
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.pending(), 0);
    assert_eq!(detokenizer.push(b"new"), "new");
}

/// Bytes that often are, and often are not, parts of characters.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<char>().prop_map(|character| character.to_string().into_bytes()),
        (any::<char>(), 0usize..4).prop_map(|(character, cut)| {
            let mut bytes = character.to_string().into_bytes();
            bytes.truncate(cut);
            bytes
        }),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn chunks_make_no_difference(bytes in bytes(), cuts in prop::collection::vec(0usize..40, 0..8)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut detokenizer = Detokenizer::new();
        let mut text = String::new();
        for pair in cuts.windows(2) {
            text += &detokenizer.push(&bytes[pair[0]..pair[1]]);
            prop_assert!(detokenizer.pending() <= 3);
        }
        text += &detokenizer.finish();
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
    }
}
