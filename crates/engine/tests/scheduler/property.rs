//! Reuse never changes an answer: whatever else a server does, each request is answered as a fresh one would.

use std::collections::HashMap;

use crate::harness::{Also, Bench, TestStore, config, events, request, result};
use proptest::prelude::*;
use reprise_engine::testing::{BOS, ScriptedModel, letter};
use reprise_engine::{EngineError, Generate, Generation, Speculation};
use reprise_gguf::TokenId;

/// Something that happens to a server.
#[derive(Debug, Clone)]
enum Act {
    Ask(Ask),
    /// The client of the n-th running request leaves.
    Leave(usize),
    Steps(u8),
    FailPass,
    Save(u32),
    Restore(u32),
    Erase(u32),
}

#[derive(Debug, Clone)]
struct Ask {
    /// A tree of prompts over two letters: many share a prefix.
    prompt: Vec<TokenId>,
    predict: u32,
    pin: Option<i64>,
    cache_prompt: bool,
    reuse_chunk: u32,
    copies: u32,
    keep: i32,
}

impl Ask {
    fn request(&self) -> Generate {
        request(self.prompt.clone()).also(|request| {
            request.pin = self.pin;
            request.cache_prompt = self.cache_prompt;
            request.reuse_chunk = self.reuse_chunk;
            request.copies = self.copies;
            request.limits.predict = Some(self.predict);
            request.limits.keep = self.keep;
            request.limits.ignore_eos = false;
        })
    }
}

fn tokens() -> impl Strategy<Value = Vec<TokenId>> {
    let stem = (0..3_u32, 0..70_usize).prop_map(|(seed, length)| {
        (0..length as u32).map(|i| letter((i * i + seed * i) / 3 % 2)).collect::<Vec<_>>()
    });
    let tail = prop::collection::vec((0..2_u32).prop_map(letter), 0..12);
    (stem, tail).prop_map(|(stem, tail)| [vec![BOS], stem, tail].concat())
}

fn ask() -> impl Strategy<Value = Act> {
    let pin = prop_oneof![3 => Just(None), 1 => (-3..4_i64).prop_map(Some)];
    let chunk = prop_oneof![2 => Just(0_u32), 1 => 1..9_u32];
    let copies = prop_oneof![4 => Just(1_u32), 1 => 2..4_u32];
    (tokens(), 0..40_u32, pin, prop::bool::weighted(0.9), chunk, copies, -1..4_i32).prop_map(
        |(prompt, predict, pin, cache_prompt, reuse_chunk, copies, keep)| {
            Act::Ask(Ask { prompt, predict, pin, cache_prompt, reuse_chunk, copies, keep })
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => ask(),
        2 => (0..4_usize).prop_map(Act::Leave),
        6 => (0..20_u8).prop_map(Act::Steps),
        1 => Just(Act::FailPass),
        1 => (0..3_u32).prop_map(Act::Save),
        1 => (0..3_u32).prop_map(Act::Restore),
        1 => (0..3_u32).prop_map(Act::Erase),
    ]
}

/// The answer of an engine that has seen nothing else.
fn alone(ask: &Ask, shift: bool, known: &mut HashMap<String, String>) -> String {
    let key = format!("{:?} {} {}", ask.prompt, ask.predict, ask.keep);
    let fresh = || {
        let config = config(1, 96).also(|config| {
            config.ram_blocks = 0;
            config.context_shift = shift;
        });
        let uncached = Ask { cache_prompt: false, reuse_chunk: 0, pin: None, copies: 1, ..ask.clone() };
        Bench::new(config).complete(uncached.request()).text
    };
    known.entry(key).or_insert_with(fresh).clone()
}

/// Takes the answers that have come and compares them. Failures are allowed where the test has made the pass fail, or
/// where the pool is shared.
fn check(
    open: &mut Vec<(Ask, Generation)>,
    shift: bool,
    known: &mut HashMap<String, String>,
) -> Result<(), TestCaseError> {
    let mut still_open = Vec::new();
    for (ask, mut generation) in open.drain(..) {
        let mut ended = false;
        for event in events(&mut generation) {
            match event {
                reprise_engine::Event::Finished(finished) => {
                    ended = true;
                    prop_assert_eq!(&finished.text, &alone(&ask, shift, known), "{:?}", ask);
                }
                reprise_engine::Event::Failed(error) => {
                    ended = true;
                    let expected = match &error {
                        EngineError::Backend(why) => why.contains("scripted failure"),
                        EngineError::PoolExhausted => true,
                        _ => false,
                    };
                    prop_assert!(expected, "{}: {:?}", error, ask);
                }
                _ => {}
            }
        }
        if !ended || ask.copies > 1 {
            still_open.push((ask, generation));
        }
    }
    *open = still_open;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn reuse_never_changes_an_answer(
        acts in prop::collection::vec(act(), 1..40),
        unified in any::<bool>(),
        shift in any::<bool>(),
        ram_blocks in prop_oneof![Just(0_u32), Just(3), Just(40)],
        micro_batch in prop_oneof![Just(2_u32), Just(7), Just(32)],
        lookup in prop_oneof![Just(None), (1..4_u32).prop_map(Some)],
    ) {
        let config = config(3, 96).also(|config| {
            config.unified = unified;
            config.pool_tokens = if unified { 192 } else { 288 };
            config.context_shift = shift;
            config.ram_blocks = ram_blocks;
            config.micro_batch = micro_batch;
            config.speculation = lookup.map(|lookup| Speculation { lookup, ..Speculation::default() });
        });
        let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch);
        let mut bench = Bench::with(model, config, TestStore::default());
        let (mut open, mut known) = (Vec::new(), HashMap::new());
        for act in acts {
            let handle = bench.handle.clone();
            match act {
                Act::Ask(mut ask) => {
                    if unified && shift {
                        // Copies share cells; a full pool lets a shift of theirs drop more than it would alone.
                        ask.copies = 1;
                    }
                    open.push((ask.clone(), handle.generate(ask.request())));
                }
                Act::Leave(index) if index < open.len() => drop(open.swap_remove(index)),
                Act::Leave(_) => {}
                Act::Steps(count) => bench.run_passes(count.into()),
                Act::FailPass => bench.controls.fail_next(1),
                // Failures are fine: nothing saved yet, or no room.
                Act::Save(slot) => drop(bench.ask(handle.save(slot, "a".into()))),
                Act::Restore(slot) => drop(bench.ask(handle.restore(slot, "a".into()))),
                Act::Erase(slot) => drop(bench.ask(handle.erase(slot))),
            }
            check(&mut open, shift, &mut known)?;
        }
        bench.controls.fail_next(0);
        bench.settle();
        check(&mut open, shift, &mut known)?;
        for (_, mut generation) in open {
            prop_assert!(result(&mut generation).is_none_or(|ended| ended.is_ok()));
        }
        let slots = { let handle = bench.handle.clone(); bench.ask(handle.slots()).unwrap() };
        prop_assert!(slots.iter().all(|slot| !slot.processing));
    }
}
