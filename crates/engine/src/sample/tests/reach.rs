//! Which samplers need only the best logits, and that these give the tokens that the whole row gives.

use reprise_gguf::TokenId;
use reprise_model::Scores;

use crate::EngineError;
use crate::sample::{Grammar, GrammarEnv, Mirostat, Report, Sampler, SamplerKind, Sampling};
use crate::testing::{VOCAB, letters, text};

fn sampler(params: &Sampling) -> Sampler {
    Sampler::new(params, &text(), &GrammarEnv::default(), 512, false, &letters("abcabc")).unwrap()
}

fn reach(change: impl FnOnce(&mut Sampling)) -> Option<u32> {
    let mut params = Sampling { seed: 1, ..Sampling::default() };
    change(&mut params);
    sampler(&params).reach(VOCAB)
}

#[test]
fn greedy_needs_the_best_and_top_k_the_first_k() {
    assert_eq!(reach(|_| {}), Some(40));
    assert_eq!(reach(|p| p.top_k = 7), Some(7));
    assert_eq!(reach(|p| p.top_k = 0), None);
    assert_eq!(reach(|p| p.temperature = 0.0), Some(1));
    assert_eq!(reach(|p| (p.temperature, p.top_k) = (0.0, 0)), Some(1));
    // Behind top-k anything may stand.
    assert_eq!(reach(|p| p.typical_p = 0.5), Some(40));
    assert_eq!(reach(|p| (p.xtc_probability, p.xtc_threshold) = (0.5, 0.1)), Some(40));
    assert_eq!(reach(|p| p.dynatemp_range = 0.5), Some(40));
    let order = |kinds: &'static [SamplerKind]| move |p: &mut Sampling| p.samplers = kinds.to_vec();
    assert_eq!(reach(order(&[SamplerKind::TopK, SamplerKind::Penalties])), Some(40));
    assert_eq!(reach(order(&[SamplerKind::Temperature])), None);
    assert_eq!(reach(order(&[])), None);
    assert_eq!(reach(order(&[SamplerKind::TopP, SamplerKind::TopK])), None);
}

#[test]
fn what_looks_at_all_logits_gets_them() {
    assert_eq!(reach(|p| p.repeat_penalty = 1.1), None);
    assert_eq!(reach(|p| (p.temperature, p.presence_penalty) = (0.0, 0.5)), None);
    assert_eq!(reach(|p| p.dry.multiplier = 0.8), None);
    assert_eq!(reach(|p| p.top_n_sigma = 1.0), None);
    assert_eq!(reach(|p| p.logit_bias = vec![(TokenId(5), 1.0)]), None);
    assert_eq!(reach(|p| p.mirostat = Mirostat { version: 2, tau: 5.0, eta: 0.1 }), None);
    assert_eq!(reach(|p| p.grammar = Some(Grammar::Gbnf("root ::= \"a\"".into()))), None);
    // The temperature is not zero, or moves the best out.
    assert_eq!(reach(|p| (p.temperature, p.dynatemp_range, p.top_k) = (0.0, 0.5, 0)), None);
    assert_eq!(reach(|p| (p.temperature, p.typical_p, p.top_k) = (0.0, 0.5, 0)), None);
    assert_eq!(reach(|p| (p.temperature, p.xtc_probability, p.top_k) = (0.0, 0.5, 0)), None);
    // Rows that hold more than the vocabulary.
    assert_eq!(sampler(&Sampling::default()).reach(VOCAB + 1), None);
}

/// Logits that all differ, with a few far above the others.
fn row(step: u32) -> Vec<f32> {
    let value = |id: u32| {
        let mixed = (id + 1).wrapping_mul(2_654_435_761).wrapping_add(step.wrapping_mul(40_503));
        let tail = (mixed >> 8) as f32 / (1 << 22) as f32;
        if mixed.is_multiple_of(37) { tail + 3.0 } else { tail }
    };
    (0..VOCAB as u32).map(value).collect()
}

fn best(row: &[f32], count: u32) -> (Vec<f32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
    order.truncate(count as usize);
    (order.iter().map(|id| row[*id as usize]).collect(), order)
}

#[test]
fn the_best_give_what_the_whole_row_gives() {
    let base = Sampling { seed: 11, ..Sampling::default() };
    let order = |samplers: &[SamplerKind]| Sampling { samplers: samplers.to_vec(), ..base.clone() };
    let all = [
        base.clone(),
        Sampling { top_k: 3, temperature: 5.0, ..base.clone() },
        Sampling { top_k: 1, ..base.clone() },
        Sampling { top_k: 100, top_p: 1.0, min_p: 0.0, temperature: 3.0, ..base.clone() },
        Sampling { typical_p: 0.7, xtc_probability: 0.7, xtc_threshold: 0.05, ..base.clone() },
        Sampling { dynatemp_range: 0.7, min_keep: 5, ..base.clone() },
        Sampling { temperature: 0.0, ..base.clone() },
        Sampling { temperature: 0.0, top_k: 0, top_n_sigma: 1.0, ..base.clone() },
        Sampling {
            temperature: 2.0,
            repeat_penalty: 1.5,
            ..order(&[SamplerKind::TopK, SamplerKind::Penalties])
        },
        Sampling {
            temperature: 0.0,
            ..order(&[SamplerKind::Temperature, SamplerKind::MinP, SamplerKind::TopK])
        },
    ];
    for params in all {
        let (mut whole, mut narrow) = (sampler(&params), sampler(&params));
        let reach = narrow.reach(VOCAB).expect("a chain that needs the best alone");
        let mut found = Vec::new();
        for step in 0..200 {
            let row = row(step);
            let (expected, _) = whole.sample(Scores::All(&row), None).unwrap();
            // More than are needed come when another request of the step needs them.
            let (logits, tokens) = best(&row, reach + step % 3);
            let (token, _) = narrow.sample(Scores::Top { logits: &logits, tokens: &tokens }, None).unwrap();
            assert_eq!(token, expected, "step {step} of {params:?}");
            whole.accept(token);
            narrow.accept(token);
            found.push(token);
        }
        assert!(found.windows(2).any(|pair| pair[0] != pair[1]), "{params:?}");
    }
}

#[test]
fn too_few_logits_are_an_error() {
    let (logits, tokens) = best(&row(0), 39);
    let top = Scores::Top { logits: &logits, tokens: &tokens };
    let backend = |result: Result<_, EngineError>| matches!(result, Err(EngineError::Backend(_)));
    assert!(backend(sampler(&Sampling::default()).sample(top, None)));
    let biased = Sampling { logit_bias: vec![(TokenId(5), 1.0)], ..Sampling::default() };
    assert!(backend(sampler(&biased).sample(top, None)));
    let text = text();
    let report = Report { text: &text, top: 1, post_sampling: false, special: false };
    let few = Sampling { top_k: 3, ..Sampling::default() };
    assert!(backend(sampler(&few).sample(top, Some(report))));
    assert!(sampler(&few).sample(top, None).is_ok());
}
