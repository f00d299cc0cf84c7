//! Speculative decoding: fewer passes, the same answers.

use proptest::prelude::*;
use reprise_engine::sample::{Grammar, Sampling};
use reprise_engine::testing::{BOS, EOS, PassEntry, ScriptedModel, hashed_letter, letter, letters};
use reprise_engine::{
    EngineConfig, EngineError, Event, Generate, Probabilities, Speculated, Speculation, StopReason,
};
use reprise_gguf::TokenId;
use reprise_model::Output;

use crate::harness::{Also, Bench, TestStore, config, events, prompt, request, result, steps};

/// Mostly repeats what followed the last two tokens before, now and then not.
fn copied(prefix: &[TokenId]) -> TokenId {
    let chance = hashed_letter(prefix);
    let before = |pair: &[TokenId]| {
        let known = &prefix[..prefix.len() - 1];
        known.windows(2).rposition(|found| found == pair).map(|at| prefix[at + 2])
    };
    match prefix.last_chunk::<2>().and_then(|pair| before(pair)) {
        Some(next) if !chance.0.is_multiple_of(7) => next,
        _ if chance == EOS => EOS,
        _ => letter(chance.0 % 3),
    }
}

fn rule(lookup: u32, draft: u32) -> Option<Speculation> {
    Some(Speculation { lookup, draft, hits: 1 })
}

fn bench(config: EngineConfig) -> Bench {
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch).with_next(copied);
    Bench::with(model, config, TestStore::default())
}

/// `abcabc...` as a prompt; the model goes on with it for ever.
fn cycle(length: usize) -> Vec<TokenId> {
    std::iter::once(BOS).chain((0..length as u32 - 1).map(|i| letter(i % 3))).collect()
}

/// An engine that goes on with [`cycle`], with drafts of up to 16 tokens.
fn cycling(config: EngineConfig) -> Bench {
    let config = config.also(|config| config.speculation = rule(3, 16));
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch)
        .with_next(|prefix| letter((prefix.len() as u32 - 1) % 3));
    Bench::with(model, config, TestStore::default())
}

/// What a client is told, without what only drafts count, and what the slot holds in the end.
fn told(config: EngineConfig, request: Generate) -> (Vec<String>, String) {
    let mut bench = bench(config);
    let mut generation = bench.handle.generate(request);
    bench.settle();
    let plain = |mut event: Event| {
        match &mut event {
            Event::Step(step) => step.timings.drafts = Default::default(),
            Event::Finished(finished) => finished.timings.drafts = Default::default(),
            _ => {}
        }
        format!("{event:?}")
    };
    let handle = bench.handle.clone();
    let slots = bench.ask(handle.slots()).expect("the engine runs");
    (events(&mut generation).into_iter().map(plain).collect(), slots[0].text.clone())
}

fn speculation(bench: &mut Bench) -> Speculated {
    let handle = bench.handle.clone();
    bench.ask(handle.metrics()).expect("the engine runs").speculation
}

fn decodes(bench: &Bench) -> Vec<PassEntry> {
    let passes = bench.controls.passes();
    passes.into_iter().flatten().filter(|entry| entry.output.wants_scores()).collect()
}

#[test]
fn drafts_that_come_true_save_passes() {
    let mut bench = cycling(config(1, 256));
    let finished = bench.complete(request(cycle(12)).also(|r| {
        r.limits.predict = Some(40);
        r.limits.ignore_eos = false;
    }));
    assert_eq!(finished.text, "cab".repeat(14)[..40]);
    // The prompt gives one token, a draft of 8 nine, the next ones 16 are at their limit, then what is left.
    let counts: Vec<u32> = decodes(&bench).iter().map(|entry| entry.count).collect();
    assert_eq!(counts, [12, 9, 17, 13]);
    let asked: Vec<Output> = decodes(&bench).iter().map(|entry| entry.output).collect();
    assert_eq!(asked, [Output::Top(1), Output::EachTop(1), Output::EachTop(1), Output::EachTop(1)]);
    assert_eq!((finished.timings.drafts.drafted, finished.timings.drafts.accepted), (36, 36));
    let Speculated { drafts, drafted, accepted, accepted_at } = speculation(&mut bench);
    assert_eq!((drafts, drafted, accepted, accepted_at.len()), (3, 36, 36, 16));
    assert_eq!((accepted_at[7], accepted_at[8], accepted_at[12]), (3, 2, 1));
    assert_eq!(finished.slot_tokens, 12 + 39);
}

#[test]
fn without_it_nothing_is_drafted() {
    let mut bench = bench(config(1, 256));
    bench.complete(request(cycle(12)).also(|r| r.limits.predict = Some(20)));
    assert_eq!(decodes(&bench).iter().skip(1).map(|entry| entry.count).max(), Some(1));
    assert_eq!(speculation(&mut bench), Speculated::default());
}

#[test]
fn a_stop_string_in_a_draft_ends_there() {
    let mut bench = cycling(config(1, 256));
    let finished = bench.complete(request(cycle(12)).also(|r| {
        r.limits.predict = Some(40);
        r.stops = vec!["bcab".into()];
    }));
    assert_eq!((finished.text.as_str(), finished.stop), ("ca", StopReason::Word("bcab".into())));
    // The last token that was sampled is not in the slot, and nothing of the draft behind it.
    assert_eq!((finished.tokens.len(), finished.slot_tokens), (6, 12 + 5));
    assert_eq!(bench.slot_tokens(), [17]);
}

#[test]
fn a_draft_ends_with_the_context() {
    let mut bench = cycling(config(1, 32));
    let finished = bench.complete(request(cycle(12)).also(|r| r.limits.predict = None));
    assert_eq!((finished.tokens.len(), finished.slot_tokens, finished.truncated), (20, 31, true));
    assert!(decodes(&bench).iter().all(|entry| entry.start + entry.count <= 31));
    assert_eq!(decodes(&bench).len(), 3);
}

#[test]
fn prompts_have_most_of_a_pass() {
    let mut bench = cycling(config(2, 256).also(|config| config.micro_batch = 20));
    let _first = bench.handle.generate(request(cycle(12)).also(|r| r.limits.predict = Some(200)));
    bench.run_passes(2);
    let _second = bench.handle.generate(request(prompt(3, 100)));
    bench.run_passes(4);
    let passes = bench.controls.passes();
    let mixed: Vec<(u32, u32)> =
        passes.iter().filter(|pass| pass.len() == 2).map(|pass| (pass[0].count, pass[1].count)).collect();
    assert_eq!(mixed, [(5, 15); 4]);
}

#[test]
fn slots_share_the_drafts_of_a_pass() {
    let mut bench = cycling(config(3, 256));
    let ask = request(cycle(12)).also(|r| {
        r.limits.predict = Some(200);
        r.copies = 3;
    });
    let _generation = bench.handle.generate(ask);
    bench.run_passes(4);
    let passes = bench.controls.passes();
    let counts: Vec<u32> = passes[3].iter().map(|entry| entry.count).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u32>()), (3, 3 + 16), "{counts:?}");
}

#[test]
fn a_failed_pass_leaves_nothing_of_a_draft() {
    let mut bench = cycling(config(1, 256));
    let mut generation = bench.handle.generate(request(cycle(12)).also(|r| r.limits.predict = Some(40)));
    bench.run_passes(2);
    bench.controls.fail_next(1);
    bench.settle();
    let failed = result(&mut generation).expect("it has ended");
    assert!(matches!(failed, Err(EngineError::Backend(_))));
    assert_eq!(bench.slot_tokens(), [12 + 9]);
}

#[test]
fn a_client_that_leaves_keeps_what_was_accepted() {
    let mut bench = cycling(config(1, 256));
    let mut generation = bench.handle.generate(request(cycle(12)).also(|r| r.limits.predict = Some(100)));
    bench.run_passes(2);
    assert_eq!(steps(&events(&mut generation)), 10);
    drop(generation);
    bench.settle();
    assert_eq!(bench.slot_tokens(), [12 + 9]);
    assert_eq!(bench.reuse(request(cycle(22))), (0, 21, 1));
}

#[test]
fn drafts_that_do_not_come_true_become_rare() {
    // Repeats its prompt's pairs of tokens, but never goes on as they did.
    let config = config(1, 512).also(|config| config.speculation = rule(1, 16));
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch)
        .with_next(|prefix| letter(prefix.len() as u32 * prefix.len() as u32 / 2 % 26));
    let mut bench = Bench::with(model, config, TestStore::default());
    bench.complete(request(cycle(12)).also(|r| r.limits.predict = Some(300)));
    let Speculated { drafts, accepted, .. } = speculation(&mut bench);
    assert!(drafts > 0 && drafts < 40, "{drafts} drafts, {accepted} tokens accepted");
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0_f32), Just(0.4), Just(1.5)];
    let grammar =
        prop_oneof![4 => Just(None), 1 => Just(Some(Grammar::Gbnf("root ::= [a-c]+ \"b\"".into())))];
    let bias = prop_oneof![2 => Just(Vec::new()), 1 => Just(vec![(letter(1), 1.0_f32)])];
    let mirostat = prop_oneof![4 => Just(0_u8), 1 => Just(2_u8)];
    (temperature, any::<u32>(), prop_oneof![Just(1.0_f32), Just(1.3)], grammar, bias, mirostat).prop_map(
        |(temperature, seed, repeat_penalty, grammar, logit_bias, mirostat)| {
            let plain =
                Sampling { temperature, seed, repeat_penalty, grammar, logit_bias, ..Sampling::default() };
            plain.also(|sampling| sampling.mirostat.version = mirostat)
        },
    )
}

fn generate() -> impl Strategy<Value = Generate> {
    let text = prop::collection::vec((0..3_u32).prop_map(letter), 0..40);
    let limit = prop_oneof![Just(None), (1..60_u32).prop_map(Some)];
    let stops = prop_oneof![Just(Vec::new()), Just(vec!["abca".to_owned(), "bb".to_owned()])];
    let probabilities = prop_oneof![
        2 => Just(None),
        1 => any::<bool>().prop_map(|post_sampling| Some(Probabilities { top: 2, post_sampling })),
    ];
    (text, limit, stops, probabilities, sampling(), any::<bool>(), -1..6_i32).prop_map(
        |(text, predict, stops, probabilities, sampling, ignore_eos, keep)| {
            request([vec![BOS], text].concat()).also(|request| {
                request.limits.predict = predict;
                request.limits.ignore_eos = ignore_eos;
                request.limits.keep = keep;
                request.stops = stops;
                request.probabilities = probabilities;
                request.sampling = sampling;
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_client_sees_no_difference(
        generate in generate(),
        lookup in 1..4_u32,
        draft in 1..20_u32,
        hits in 1..3_u32,
        context in prop_oneof![Just(48_u32), Just(96)],
        shift in any::<bool>(),
    ) {
        // Without a limit a shifting context never ends.
        let generate = generate.also(|generate| {
            if shift {
                generate.limits.predict.get_or_insert(150);
            }
        });
        let plain = config(1, context).also(|config| config.context_shift = shift);
        let speculating = plain.clone().also(|config| {
            config.speculation = Some(Speculation { lookup, draft, hits });
        });
        prop_assert_eq!(told(speculating, generate.clone()), told(plain, generate));
    }
}

#[test]
fn the_copying_model_is_drafted_for() {
    let config = config(1, 256).also(|config| config.speculation = rule(2, 8));
    let mut bench = bench(config);
    bench
        .complete(request([vec![BOS], letters("abcabcaab")].concat()).also(|r| r.limits.predict = Some(200)));
    let Speculated { drafted, accepted, .. } = speculation(&mut bench);
    assert!(accepted > 20 && accepted < drafted, "{accepted} of {drafted}: the property sees both kinds");
}
