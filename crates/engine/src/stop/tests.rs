//! When a generation stops, held to the order of the checks.

use std::time::Duration;

use proptest::prelude::*;

use super::{Answer, Circumstances};
use crate::{Limits, StopReason};

const UNLIMITED: Limits =
    Limits { predict: None, keep: 0, discard: 0, indent: 0, time: None, ignore_eos: false };
const EARLY: Circumstances =
    Circumstances { end_of_generation: false, context_full: false, predicted: 1, elapsed: Duration::ZERO };

#[test]
fn the_reasons_overrule_each_other_in_the_references_order() {
    let limits = Limits { predict: Some(1), ..UNLIMITED };
    let judge = |bytes: &[u8], limits: &Limits, at: Circumstances| {
        let mut answer = Answer::new(&["x".to_owned()]);
        let addition = answer.push(bytes, at.end_of_generation);
        answer.judge(&addition, limits, at)
    };
    let full = Circumstances { context_full: true, ..EARLY };
    let ended = Circumstances { end_of_generation: true, ..full };
    assert_eq!(judge(b"a", &UNLIMITED, EARLY), None);
    assert_eq!(judge(b"a", &limits, EARLY), Some(StopReason::Limit));
    assert_eq!(judge(b"ax", &limits, EARLY), Some(StopReason::Word("x".into())));
    assert_eq!(judge(b"ax", &limits, full), Some(StopReason::Limit));
    assert_eq!(judge(b"ax", &limits, ended), Some(StopReason::EndOfGeneration));
}

#[test]
fn nothing_is_judged_by_an_unfinished_character_but_a_line_break_in_it() {
    let mut answer = Answer::new(&[]);
    let addition = answer.push(b"\n\xc3", false);
    assert_eq!(addition.text, None);
    let limits = Limits { time: Some(Duration::ZERO), ..UNLIMITED };
    let late = Circumstances { elapsed: Duration::from_secs(1), ..EARLY };
    assert_eq!(answer.judge(&addition, &limits, late), Some(StopReason::Limit));
    assert!(answer.has_new_line());
    assert_eq!(answer.finish(), ("\n\u{fffd}".to_owned(), "\n\u{fffd}".to_owned()));
}

#[test]
fn an_indented_line_may_be_empty_or_deeper() {
    let limits = Limits { indent: 2, ..UNLIMITED };
    let cut = |text: &str| {
        let mut answer = Answer::new(&[]);
        for byte in text.as_bytes() {
            let addition = answer.push(&[*byte], false);
            if answer.judge(&addition, &limits, EARLY).is_some() {
                return Some(answer.finish().0);
            }
        }
        None
    };
    assert_eq!(cut("a\n  b\n\t\t\tc\n"), None);
    assert_eq!(cut("a\n  b\n c"), Some("a\n  b\n ".into()));
    // The first line break is seen one token late, as in the reference.
    assert_eq!(cut("a\nb"), None);
    assert_eq!(cut("a\n b"), Some("a\n ".into()));
    assert_eq!(cut("a\nbc"), Some("a\n".into()));
    // A line without any text has too little indentation as well.
    assert_eq!(cut("a\n\n  b"), Some("a\n".into()));
}

proptest! {
    /// However the text is cut into tokens: what is sent and what is left over is the text up to the stop string.
    #[test]
    fn pieces_make_the_text(
        text in "[ab\u{e9}\u{1f600}]{0,24}",
        cuts in prop::collection::vec(1..4_usize, 1..24),
        stop in "[ab]{1,3}",
        predicted in 1..30_u32,
    ) {
        let mut answer = Answer::new(std::slice::from_ref(&stop));
        let limits = Limits { predict: Some(predicted), ..UNLIMITED };
        let (mut rest, mut sent, mut count, mut cuts) = (text.as_bytes(), String::new(), 0, cuts.into_iter().cycle());
        let mut reason = None;
        let mut seen = 0;
        while !rest.is_empty() && reason.is_none() {
            let (piece, after) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            (rest, count, seen) = (after, count + 1, seen + piece.len());
            let addition = answer.push(piece, false);
            reason = answer.judge(&addition, &limits, Circumstances { predicted: count, ..EARLY });
            sent.push_str(addition.text.as_deref().unwrap_or(""));
        }
        let (whole, tail) = answer.finish();
        prop_assert_eq!(&format!("{sent}{tail}"), &whole);
        let said = String::from_utf8_lossy(&text.as_bytes()[..seen]).into_owned();
        match reason {
            Some(StopReason::Word(word)) => {
                prop_assert_eq!(&word, &stop);
                prop_assert_eq!(Some(whole.len()), text.find(&stop));
                prop_assert!(text.starts_with(&whole));
            }
            _ => {
                prop_assert_eq!(&whole, &said);
                let unfinished = said.ends_with(char::REPLACEMENT_CHARACTER);
                prop_assert!(unfinished || !said.contains(&stop));
            }
        }
    }
}
