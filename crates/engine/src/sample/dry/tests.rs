//! DRY, held to a naive search for repetitions.

use proptest::prelude::*;
use reprise_gguf::TokenId;

use super::*;

const VOCAB: usize = 8;
/// The token that the tests use as a breaker.
const BREAK: u32 = 7;

fn params(allowed_length: i32) -> DryParams {
    DryParams {
        multiplier: 1.0,
        base: 2.0,
        allowed_length,
        penalty_last_n: 64,
        sequence_breakers: Vec::new(),
    }
}

fn breakers() -> Breakers {
    let pieces: Vec<Vec<u8>> = (0..VOCAB as u8).map(|token| vec![b'a' + token]).collect();
    let breaker = [char::from(b'a' + BREAK as u8).to_string()];
    Breakers::new(&breaker, &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>(), |_| Vec::new())
}

fn penalties(allowed_length: i32, text: &[u32]) -> Vec<f32> {
    let mut dry = Dry::new(&params(allowed_length), 64, VOCAB, breakers).unwrap();
    for &token in text {
        dry.accept(TokenId(token));
    }
    let mut candidates = Candidates::default();
    candidates.load(&[0.0; VOCAB]);
    dry.apply(&mut candidates);
    let once: Vec<f32> = candidates.items.iter().map(|item| -item.logit).collect();
    // Nothing of a step is left behind for the next.
    candidates.load(&[0.0; VOCAB]);
    dry.apply(&mut candidates);
    assert_eq!(once, candidates.items.iter().map(|item| -item.logit).collect::<Vec<_>>());
    once
}

#[test]
fn a_continued_repetition_costs_base_to_the_excess() {
    // "a b c d a b c": d would make the third repeated token four.
    assert_eq!(penalties(2, &[0, 1, 2, 3, 0, 1, 2])[3], 2.0);
    assert_eq!(penalties(1, &[0, 1, 2, 3, 0, 1, 2])[3], 4.0);
    assert_eq!(penalties(4, &[0, 1, 2, 3, 0, 1, 2]), [0.0; VOCAB]);
}

#[test]
fn a_breaker_limits_the_reach_and_is_not_penalised() {
    // Only "c" stands after the breaker: two repeated tokens would be needed.
    assert_eq!(penalties(2, &[0, 1, BREAK, 2, 3, 0, 1, BREAK, 2]), [0.0; VOCAB]);
    assert_eq!(penalties(1, &[0, 1, BREAK, 2, 3, 0, 1, BREAK, 2])[3], 1.0);
    assert_eq!(penalties(2, &[0, 1, 2, BREAK, 0, 1, 2]), [0.0; VOCAB]);
}

#[test]
fn a_breaker_of_several_tokens_is_matched_whole() {
    let pieces: [&[u8]; 4] = [b"x", b"\n\n#", b"##", b"y"];
    let encode = |rest: &str| if rest == "##" { vec![TokenId(2)] } else { vec![TokenId(9)] };
    let breakers = Breakers::new(&["\n###".to_owned()], &pieces, encode);
    // Newest first: y ## \n\n# x.
    assert_eq!(breakers.reach(&[3, 2, 1, 0]), 1);
    assert_eq!(breakers.reach(&[3, 1, 2, 0]), 4);
    assert!(!breakers.is_breaker(1));
}

#[test]
fn a_tail_inside_a_character_is_left_out() {
    let pieces: [&[u8]; 2] = [&"é".as_bytes()[..1], "é".as_bytes()];
    let breakers = Breakers::new(&["é".to_owned()], &pieces, |_| panic!("no text to encode"));
    assert!(breakers.is_breaker(1));
    assert_eq!(breakers.reach(&[0, 0]), 2);
}

proptest! {
    #[test]
    fn z_function_is_the_longest_common_prefix(text in prop::collection::vec(0_u32..3, 0..40)) {
        let mut z = Vec::new();
        z_function(&text, &mut z);
        for at in 1..text.len() {
            let common = text.iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(z[at], common);
        }
    }
}
