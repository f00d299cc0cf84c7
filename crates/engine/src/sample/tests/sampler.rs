//! The whole sampler on the byte vocabulary of the scripted model.

use reprise_gguf::TokenId;
use reprise_model::Scores;

use crate::EngineError;
use crate::sample::{Grammar, GrammarEnv, Report, Sampler, SamplerKind, Sampling};
use crate::testing::{EOS, VOCAB, byte, letter, letters, text};

fn sampler(params: &Sampling, ignore_eos: bool, prompt: &[TokenId]) -> Result<Sampler, EngineError> {
    Sampler::new(params, &text(), &GrammarEnv::default(), 512, ignore_eos, prompt)
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// Logits that fall from zero in the order of `tokens`; all others are far below.
fn preferring(tokens: &[TokenId]) -> Vec<f32> {
    let mut logits = vec![-50.0; VOCAB];
    for (rank, token) in (0_u8..).zip(tokens) {
        logits[token.index()] = -f32::from(rank);
    }
    logits
}

fn generate(sampler: &mut Sampler, wishes: &[TokenId], steps: usize) -> Vec<TokenId> {
    let logits = preferring(wishes);
    let mut step = || {
        let (token, _) = sampler.sample(Scores::All(&logits), None).unwrap();
        sampler.accept(token);
        token
    };
    (0..steps).map(|_| step()).collect()
}

#[test]
fn ignored_ends_are_never_sampled() {
    let wishes = [EOS, letter(4)];
    assert_eq!(generate(&mut sampler(&greedy(), false, &[]).unwrap(), &wishes, 1), [EOS]);
    assert_eq!(generate(&mut sampler(&greedy(), true, &[]).unwrap(), &wishes, 1), [letter(4)]);
}

#[test]
fn penalties_and_dry_see_the_prompt() {
    let params = Sampling { presence_penalty: 1.5, ..greedy() };
    let wishes = [letter(0), letter(1)];
    assert_eq!(
        generate(&mut sampler(&params, false, &letters("a")).unwrap(), &wishes, 2),
        [letter(1), letter(0)]
    );

    let mut params = greedy();
    params.dry.multiplier = 2.0;
    params.dry.sequence_breakers = vec![";".to_owned()];
    let next =
        |prompt: &str| generate(&mut sampler(&params, false, &letters(prompt)).unwrap(), &wishes, 1)[0];
    assert_eq!(next("xyaxy"), letter(1));
    assert_eq!(next("xya;y"), letter(0));
}

#[test]
fn a_grammar_steers_only_where_the_free_choice_is_wrong() {
    let grammar = Some(Grammar::Gbnf("root ::= \"no\" [a-f]{2}".to_owned()));
    let wishes = [letter(25), EOS, letter(2), letter(13), letter(14)];
    let mut constrained = sampler(&Sampling { grammar, ..greedy() }, false, &letters("prompt")).unwrap();
    let expected: Vec<_> = letters("nocc").into_iter().chain([EOS]).collect();
    assert_eq!(generate(&mut constrained, &wishes, 5), expected);
}

/// A token that fits costs one draw, one that does not costs two: texts with and without a grammar that is never
/// broken are the same.
#[test]
fn a_grammar_that_is_kept_changes_no_draw() {
    let free = Sampling { seed: 3, temperature: 2.0, ..Sampling::default() };
    let grammar = Some(Grammar::Gbnf("root ::= [a-z]*".to_owned()));
    let bound = Sampling { grammar, ..free.clone() };
    let wishes: Vec<_> = (0..12).map(letter).collect();
    let expected = generate(&mut sampler(&free, true, &[]).unwrap(), &wishes, 30);
    assert_eq!(generate(&mut sampler(&bound, true, &[]).unwrap(), &wishes, 30), expected);
    assert!(expected.iter().any(|token| *token != expected[0]));

    let grammar = Some(Grammar::Gbnf("root ::= [a-c]*".to_owned()));
    let mut bound = sampler(&Sampling { grammar, ..free }, true, &[]).unwrap();
    let found = generate(&mut bound, &wishes, 30);
    assert!(found.iter().all(|token| (0..3).any(|index| *token == letter(index))));
}

#[test]
fn a_schema_gives_json() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"]}"#;
    let grammar = Some(Grammar::JsonSchema(schema.to_owned()));
    let mut constrained = sampler(&Sampling { grammar, ..greedy() }, false, &[]).unwrap();
    let wishes: Vec<_> = letters("{}\":falsetruexyz");
    let found = generate(&mut constrained, &wishes, 11);
    let expected: Vec<_> = letters("{\"a\":false}");
    assert_eq!(text().tokenizer.decode(&found), text().tokenizer.decode(&expected));
}

#[test]
fn a_grammar_whose_every_token_is_banned_is_an_error() {
    let grammar = Some(Grammar::Gbnf("root ::= \"%\"".to_owned()));
    let logit_bias = vec![(byte(b'%'), f32::NEG_INFINITY)];
    let mut stuck = sampler(&Sampling { grammar, logit_bias, ..greedy() }, false, &[]).unwrap();
    assert!(matches!(
        stuck.sample(Scores::All(&preferring(&[letter(0)])), None),
        Err(EngineError::Invalid(_))
    ));
}

#[test]
fn probabilities_before_the_chain_are_the_models() {
    let text = text();
    let params = Sampling { logit_bias: vec![(letter(0), f32::NEG_INFINITY)], ..greedy() };
    let mut logits = vec![f32::NEG_INFINITY; VOCAB];
    logits[letter(0).index()] = 3.0_f32.ln();
    logits[letter(1).index()] = 0.0;
    let report = Report { text: &text, top: 3, post_sampling: false, special: false };
    let mut sampler = sampler(&params, false, &[]).unwrap();
    let (token, probs) = sampler.sample(Scores::All(&logits), Some(report)).unwrap();
    let probs = probs.unwrap();
    assert_eq!((token, probs.chosen.id), (letter(1), letter(1)));
    assert!((probs.chosen.value - 0.25_f32.ln()).abs() < 1e-6);
    let top: Vec<_> = probs.top.iter().map(|top| top.bytes.as_slice()).collect();
    assert_eq!(top[..2], [b"a", b"b"]);
    assert!((probs.top[0].value - 0.75_f32.ln()).abs() < 1e-6);
    // JSON knows no infinity.
    assert_eq!(probs.top[2].value.to_bits(), f32::MIN.to_bits());
}

#[test]
fn probabilities_after_the_chain_leave_out_the_impossible() {
    let text = text();
    let params =
        Sampling { temperature: 1.0, samplers: vec![SamplerKind::TopK], top_k: 2, ..Sampling::default() };
    let logits = preferring(&[EOS, letter(7), letter(8)]);
    let report = Report { text: &text, top: 5, post_sampling: true, special: true };
    let mut sampler = sampler(&params, false, &[]).unwrap();
    let (token, probs) = sampler.sample(Scores::All(&logits), Some(report)).unwrap();
    let probs = probs.unwrap();
    assert_eq!(probs.chosen.id, token);
    let found: Vec<_> = probs.top.iter().map(|top| (top.bytes.as_slice(), top.value)).collect();
    let best = 1.0 / (1.0 + (-1.0_f32).exp());
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].0, found[1].0), (b"</s>".as_slice(), b"h".as_slice()));
    assert!((found[0].1 - best).abs() < 1e-6 && (found[1].1 - (1.0 - best)).abs() < 1e-6);
}

#[test]
fn what_is_no_number_is_no_candidate() {
    let mut logits = vec![f32::NAN; VOCAB];
    logits[letter(3).index()] = -1e30;
    let params = Sampling { typical_p: 0.5, ..Sampling::default() };
    assert_eq!(
        sampler(&params, false, &[]).unwrap().sample(Scores::All(&logits), None).unwrap().0,
        letter(3)
    );
}

#[test]
fn unusable_settings_are_refused() {
    let words = "Failed to initialize samplers: penalty_";
    let settings = [
        Sampling { repeat_penalty: 0.0, ..greedy() },
        Sampling { repeat_penalty: 1e-45, ..greedy() },
        Sampling { frequency_penalty: f32::NAN, ..greedy() },
        Sampling { presence_penalty: f32::INFINITY, ..greedy() },
    ];
    for params in settings {
        assert!(sampler(&params, false, &[]).unwrap_err().to_string().starts_with(words));
    }
    let mut plain = sampler(&greedy(), false, &[]).unwrap();
    assert!(matches!(plain.sample(Scores::All(&[0.0; 3]), None), Err(EngineError::Backend(_))));
}

#[test]
fn a_random_seed_follows_the_entropy_and_a_given_one_does_not() {
    let random = Sampling::default();
    assert_ne!(random.resolve_seed(1), random.resolve_seed(2));
    assert_eq!(random.resolve_seed(1), random.resolve_seed(1));
    let given = Sampling { seed: 9, ..random };
    assert_eq!(given.resolve_seed(1), 9);
    assert_eq!(sampler(&given, false, &[]).unwrap().seed(), 9);
}
