//! The prompt cache beyond slots and beyond the process: blocks in a store, tenants, and what would happen to a prompt.

use std::rc::Rc;
use std::time::Duration;

use reprise_engine::testing::ScriptedModel;
use reprise_engine::{BlockStore, Ended, EngineError, Finished, MemoryBlocks, Stores, Tenant};
use reprise_gguf::TokenId;
use reprise_kv::stored::BlockKey;

use crate::harness::{Also, Bench, TestStore, config, events, prompt, request};

fn on(blocks: &Rc<MemoryBlocks>) -> Bench {
    let config = config(1, 256);
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch);
    Bench::on(model, config, Stores { slots: None::<TestStore>, blocks: Some(Rc::clone(blocks)) })
}

fn store() -> Rc<MemoryBlocks> {
    Rc::new(MemoryBlocks::new(1 << 20))
}

/// Two turns of a chat: what the second has in common with the first was asked for twice.
fn chat(bench: &mut Bench) -> (Vec<TokenId>, Finished) {
    let first = prompt(1, 100);
    bench.complete(request(first.clone()));
    let second = [first, prompt(2, 41)[1..].to_vec()].concat();
    let finished = bench.complete(request(second.clone()));
    (second, finished)
}

#[test]
fn what_was_asked_for_twice_survives_a_kill() {
    let blocks = store();
    let mut bench = on(&blocks);
    bench.complete(request(prompt(1, 100)));
    assert_eq!(blocks.stats().blocks, 0, "nobody has asked again");
    let (tokens, before) = chat(&mut bench);
    assert_eq!(blocks.stats().blocks, 3);
    // Killed: nothing of the engine runs any more.
    drop(bench);

    let mut bench = on(&blocks);
    let after = bench.complete(request(tokens));
    assert_eq!((after.timings.cached, after.placed.stored, after.placed.own), (96, 96, 0));
    assert_eq!(after.text, before.text);
}

#[test]
fn a_clean_end_stores_everything() {
    let blocks = store();
    let mut bench = on(&blocks);
    bench.complete(request(prompt(1, 100)));
    bench.handle.drain();
    bench.settle();
    assert_eq!((bench.ended, blocks.stats().blocks), (Some(Ended::Drained), 3));
    assert_eq!(on(&blocks).complete(request(prompt(1, 90))).timings.cached, 64);
}

#[test]
fn a_damaged_block_is_computed_and_replaced() {
    let blocks = store();
    let (tokens, before) = chat(&mut on(&blocks));
    let keys = keys(&blocks);
    assert!(blocks.tamper(&keys[1], |bytes| *bytes.last_mut().unwrap() ^= 1));
    let mut bench = on(&blocks);
    let after = bench.complete(request(tokens.clone()));
    assert_eq!((after.timings.cached, after.text), (32, before.text));
    assert_eq!(blocks.stats().damaged, 1);
    bench.complete(request(tokens.clone()));
    assert_eq!(on(&blocks).complete(request(tokens)).placed.stored, 128);
}

#[test]
fn a_request_starts_also_if_nothing_of_what_was_found_is_good() {
    let blocks = store();
    let (tokens, before) = chat(&mut on(&blocks));
    for key in keys(&blocks) {
        assert!(blocks.tamper(&key, |bytes| bytes.truncate(100)));
    }
    let after = on(&blocks).complete(request(tokens));
    assert_eq!((after.timings.cached, after.text), (0, before.text));
}

#[test]
fn only_what_memory_lacks_is_read() {
    let blocks = store();
    let (tokens, _) = chat(&mut on(&blocks));
    let mut bench = on(&blocks);
    // What takes no time to compute is not read.
    bench.controls.set_cost(Duration::ZERO, Duration::from_millis(10));
    bench.complete(request(tokens[..40].to_vec()));
    let after = bench.complete(request(tokens));
    // The slot still shows 40 tokens and 3 of the answer; the block that begins there comes from the store.
    assert_eq!((after.timings.cached, after.placed.stored, after.placed.own), (96, 56, 40));
}

#[test]
fn what_makes_way_for_stored_blocks_is_counted() {
    let blocks = store();
    let (tokens, _) = chat(&mut on(&blocks));
    let mut bench = on(&blocks);
    // What takes no time to compute is not read.
    bench.controls.set_cost(Duration::ZERO, Duration::from_millis(10));
    // More than the 73 blocks that memory has.
    for seed in 3..19 {
        bench.complete(request(prompt(seed, 180)));
    }
    let placed = bench.complete(request(tokens)).placed;
    assert!(placed.cached == 96 && placed.stored > 0, "{placed:?}");
    assert!(placed.evicted >= placed.stored, "{placed:?}");
}

#[test]
fn without_cache_prompt_the_store_is_not_asked() {
    let blocks = store();
    let (tokens, _) = chat(&mut on(&blocks));
    let again = request(tokens).also(|request| request.cache_prompt = false);
    assert_eq!(on(&blocks).complete(again).timings.cached, 0);
}

#[test]
fn tenants_share_neither_memory_nor_store() {
    let blocks = store();
    let mut bench = on(&blocks);
    chat(&mut bench);
    let theirs = bench.handle.for_tenant(Tenant(7));
    let ask = |bench: &mut Bench, tokens: Vec<TokenId>| {
        let mut generation = theirs.generate(request(tokens));
        bench.settle();
        crate::harness::result(&mut generation).unwrap().unwrap().timings.cached
    };
    assert_eq!(ask(&mut bench, prompt(1, 100)), 0);
    assert_eq!(ask(&mut bench, prompt(1, 100)), 99);
    assert_eq!(on(&blocks).complete(request(prompt(1, 100))).timings.cached, 96, "the first tenant's");

    // The slot is theirs now: others see that there is something, and cannot have it.
    let (mine, also_theirs) = (bench.handle.clone(), theirs.clone());
    let seen = bench.ask(mine.slots()).unwrap();
    assert!(seen[0].task.is_none() && seen[0].text.is_empty() && seen[0].tokens == 0);
    assert!(matches!(bench.ask(mine.export_slot(0)), Err(EngineError::Foreign { slot: 0 })));
    let image = bench.ask(also_theirs.export_slot(0)).unwrap();
    let put = bench.ask(mine.import_slot(0, image.parts.concat().into()));
    assert!(matches!(put, Err(EngineError::Image(_))), "an image is its tenant's: {put:?}");
}

#[test]
fn a_plan_says_what_would_happen_and_does_nothing() {
    let mut bench = Bench::new(config(1, 256));
    bench.complete(request(prompt(1, 100)));
    let handle = bench.handle.clone();
    let plan = bench.ask(handle.plan(request(prompt(1, 90)))).unwrap();
    let placed = plan.placed.clone().unwrap();
    assert_eq!((plan.prompt_tokens, placed.cached, placed.own, placed.slot), (90, 89, 89, 0));
    assert_eq!(bench.ask(handle.plan(request(prompt(1, 90)))).unwrap(), plan);
    let finished = bench.complete(request(prompt(1, 90)));
    assert_eq!((finished.placed.reason, finished.timings.cached), (placed.reason, 89));

    let mut running = handle.generate(request(prompt(2, 40)));
    bench.step();
    assert_eq!(bench.ask(handle.plan(request(prompt(1, 90)))).unwrap().placed, None, "it would wait");
    drop(events(&mut running));
    let refused = bench.ask(handle.plan(request(prompt(1, 300))));
    assert!(matches!(refused, Err(EngineError::ContextExceeded { .. })));
}

#[test]
fn a_plan_counts_what_the_store_would_bring_in() {
    let blocks = store();
    let (tokens, _) = chat(&mut on(&blocks));
    let mut bench = on(&blocks);
    let handle = bench.handle.clone();
    let planned = bench.ask(handle.plan(request(tokens.clone()))).unwrap().placed.unwrap();
    assert!(planned.stored > 0 && planned.cached == planned.stored);
    let placed = bench.complete(request(tokens.clone())).placed;
    assert_eq!((placed.cached, placed.own, placed.stored), (planned.cached, planned.own, planned.stored));
    let uncached = request(tokens).also(|request| request.cache_prompt = false);
    assert_eq!(bench.ask(handle.plan(uncached)).unwrap().placed.unwrap().cached, 0);
}

#[test]
fn a_request_may_ask_for_its_text_to_be_stored() {
    let blocks = store();
    let mut bench = on(&blocks);
    bench.complete(request(prompt(1, 100)));
    assert_eq!(blocks.stats().blocks, 0, "one request is no proof");
    bench.complete(request(prompt(2, 100)).also(|request| request.cache_store = true));
    bench.settle();
    assert_eq!(blocks.stats().blocks, 3);
    drop(bench);
    let mut bench = on(&blocks);
    assert_eq!(bench.complete(request(prompt(2, 100))).placed.stored, 96);
}

/// Of the blocks of a chat, from the first on.
fn keys(blocks: &MemoryBlocks) -> Vec<BlockKey> {
    let mut keys = blocks.keys();
    keys.sort_unstable_by_key(|(depth, _)| *depth);
    keys.into_iter().map(|(_, key)| key).collect()
}
