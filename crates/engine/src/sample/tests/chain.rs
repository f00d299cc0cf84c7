//! Whole chains: every sampler, alone and with others, over made-up logits with and without ties.
//!
//! `data/chain.json` holds for each set of parameters (llama-server's names) the tokens that llama.cpp's own samplers
//! chose one after the other, and the probabilities of the last step before and after the chain.

use reprise_gguf::TokenId;
use serde_json::Value;

use super::noise;
use super::wire::{Case, number, token};
use crate::sample::candidates::Candidates;
use crate::sample::chain::{Chain, Setting};
use crate::sample::dry::Breakers;
use crate::sample::probs;

/// The logits of one step: every value a product and sum of exact numbers, hence the same on all machines.
fn logits(row: u64, vocab: usize, levels: u64) -> Vec<f32> {
    (0..vocab as u64)
        .map(|index| {
            let random = noise(row * 1_000_003 + index) >> 40;
            let u = match levels {
                0 => random as f32 / 16_777_216.0,
                levels => (random % levels) as f32 / levels as f32,
            };
            let peaked = u.powi(2).powi(2).powi(2);
            peaked * 24.0 + u * 4.0 - 6.0
        })
        .collect()
}

/// In this vocabulary every token is one character.
fn letter(token: TokenId) -> char {
    char::from_u32(0x4e00 + token.0).unwrap()
}

fn breakers(strings: &[String], vocab: usize) -> Breakers {
    let pieces: Vec<String> = (0..vocab as u32).map(|id| letter(TokenId(id)).to_string()).collect();
    let encode = |rest: &str| rest.chars().map(|letter| TokenId(letter as u32 - 0x4e00)).collect();
    Breakers::new(strings, &pieces.iter().map(String::as_bytes).collect::<Vec<_>>(), encode)
}

#[test]
fn chains_choose_the_references_tokens() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("data/chain.json")).unwrap();
    for (number, case) in (0..).zip(&recorded) {
        let case = Case(case);
        let name = case.0["name"].as_str().unwrap();
        let vocab = case.number("vocab", 0.0) as usize;
        let mut params = case.sampling();
        let breaker =
            |tokens: &Value| tokens.as_array().unwrap().iter().map(|id| letter(token(id))).collect();
        params.dry.sequence_breakers = case.list("breaker_tokens").iter().map(breaker).collect();
        let setting = Setting {
            vocab,
            context: 0,
            banned: &case.tokens("banned"),
            breakers: &|| breakers(&params.dry.sequence_breakers, vocab),
        };
        let mut chain = Chain::new(&params, &setting);
        for token in case.tokens("prompt") {
            chain.accept(token);
        }
        let mut candidates = Candidates::default();
        let expected = case.tokens("tokens");
        let mut row = Vec::new();
        for (step, &expected) in (0..).zip(&expected) {
            row = logits(number * 1000 + step, vocab, case.number("levels", 0.0) as u64);
            candidates.load(&row);
            chain.apply(&mut candidates);
            let chosen = TokenId(candidates.chosen().unwrap().id);
            assert_eq!(chosen, expected, "{name}, step {step}");
            chain.accept(chosen);
        }
        assert_eq!(candidates.items.len(), case.number("left", 0.0) as usize, "{name}");
        check(name, case.list("after"), probs::most_likely(&mut candidates, 5));
        check(name, case.list("before"), probs::logarithms(&row, 5, &mut Vec::new()).1);
    }
}

/// The same tokens in the same order, and the same numbers to the last bit.
fn check(name: &str, expected: &[Value], found: impl Iterator<Item = (u32, f32)>) {
    let expected = expected.iter().map(|pair| (token(&pair[0]).0, number(&pair[1]).to_bits()));
    let found = found.map(|(id, value)| (id, value.to_bits()));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
}
