//! Stop strings are found wherever the chunks end.

use proptest::prelude::*;

use super::{StopMatcher, StopOutcome};

fn matcher(stops: &[&str]) -> StopMatcher {
    StopMatcher::new(stops.iter().map(|&stop| stop.to_owned()).collect())
}

fn emit(text: &str) -> StopOutcome {
    StopOutcome { emit: text.to_owned(), stopped: None }
}

#[test]
fn without_stops_everything_passes() {
    let mut none = matcher(&[]);
    assert_eq!(none.push("text"), emit("text"));
    assert_eq!(none.flush(), "");
    assert_eq!(matcher(&[""]).push("text"), emit("text"));
}

#[test]
fn a_partial_match_holds_back_until_it_is_decided() {
    let mut stops = matcher(&["\n\nUser:"]);
    assert_eq!(stops.push("Hi\n"), emit(""));
    assert_eq!(stops.push("there"), emit("Hi\nthere"));
    assert_eq!(stops.push("\n\nUs"), emit(""));
    assert_eq!(
        stops.push("er: x"),
        StopOutcome { emit: String::new(), stopped: Some("\n\nUser:".to_owned()) }
    );
    assert_eq!(stops.push("more"), emit(""), "nothing comes after a stop");
    assert_eq!(stops.flush(), "");
}

#[test]
fn the_end_of_the_text_releases_what_was_held() {
    let mut stops = matcher(&["STOP"]);
    assert_eq!(stops.push("all STO"), emit(""));
    assert_eq!(stops.flush(), "all STO");
}

#[test]
fn the_earliest_place_wins_then_the_first_given() {
    let outcome = matcher(&["world", "lo"]).push("hello world");
    assert_eq!(outcome, StopOutcome { emit: "hel".to_owned(), stopped: Some("lo".to_owned()) });
    let outcome = matcher(&["ab", "abc"]).push("xabc");
    assert_eq!(outcome, StopOutcome { emit: "x".to_owned(), stopped: Some("ab".to_owned()) });
}

#[test]
fn a_match_may_start_inside_a_failed_one() {
    let mut stops = matcher(&["aab"]);
    assert_eq!(stops.push("a"), emit(""));
    assert_eq!(stops.push("a"), emit(""));
    assert_eq!(stops.push("a"), emit(""));
    assert_eq!(stops.push("b"), StopOutcome { emit: "a".to_owned(), stopped: Some("aab".to_owned()) });
}

/// The same answer by searching the whole text so far, anew after each chunk.
fn naive(chunks: &[&str], stops: &[String]) -> (String, Option<String>) {
    let mut text = String::new();
    for chunk in chunks {
        text += chunk;
        let places =
            stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| Some((text.find(stop)?, stop)));
        if let Some((place, stop)) = places.min_by_key(|&(place, _)| place) {
            return (text[..place].to_owned(), Some(stop.clone()));
        }
    }
    (text, None)
}

proptest! {
    #[test]
    fn it_is_the_naive_search_for_any_chunks(
        text in "[abé]{0,24}",
        stops in prop::collection::vec("[abé]{0,4}", 0..4),
        cuts in prop::collection::vec(0usize..24, 0..12),
    ) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| places[cut % places.len()]).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();

        let mut matcher = StopMatcher::new(stops.clone());
        let (mut emitted, mut stopped) = (String::new(), None);
        for chunk in &chunks {
            let outcome = matcher.push(chunk);
            emitted += &outcome.emit;
            stopped = stopped.or(outcome.stopped);
        }
        emitted += &matcher.flush();
        prop_assert_eq!((emitted, stopped), naive(&chunks, &stops));
    }
}
