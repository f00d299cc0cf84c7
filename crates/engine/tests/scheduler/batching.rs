//! What a forward pass holds: every running generation, then pieces of prompts.

use std::time::Duration;

use crate::harness::{Also, Bench, TestStore, config, events, prompt, request, result, steps};
use reprise_engine::testing::{PassEntry, ScriptedModel};
use reprise_engine::{EngineError, Event, Generate, MemoryBlocks, Progress, Stores};
use reprise_model::Output;

fn long(seed: u32, length: usize, tokens: u32) -> Generate {
    request(prompt(seed, length)).also(|request| request.limits.predict = Some(tokens))
}

#[test]
fn a_long_prompt_does_not_stop_a_running_answer() {
    let mut bench = Bench::new(config(2, 1024));
    let mut running = bench.handle.generate(long(1, 20, 100));
    bench.step();
    assert_eq!(steps(&events(&mut running)), 1);
    let mut prefill = bench.handle.generate(long(2, 500, 4));
    let mut passes = 0;
    while steps(&events(&mut prefill)) == 0 {
        bench.step();
        passes += 1;
        assert_eq!(steps(&events(&mut running)), 1, "pass {passes}");
    }
    // One of 32 tokens of each pass belongs to the answer.
    assert_eq!(passes, 500_usize.div_ceil(31));
    let second = bench.controls.passes()[1].clone();
    let decode = PassEntry { start: 20, count: 1, output: Output::LastLogits };
    assert_eq!(second, [decode, PassEntry { start: 0, count: 31, output: Output::Nothing }]);
}

#[test]
fn without_continuous_batching_prompts_wait_for_the_answers() {
    let mut bench = Bench::new(config(2, 256).also(|config| config.continuous_batching = false));
    let mut running = bench.handle.generate(long(1, 20, 8));
    bench.step();
    let mut other = bench.handle.generate(long(2, 20, 8));
    while result(&mut running).is_none() {
        bench.step();
        assert_eq!(steps(&events(&mut other)), 0);
    }
    bench.settle();
    assert!(bench.controls.passes().iter().all(|pass| pass.len() == 1));
}

#[test]
fn a_short_prompt_is_not_kept_waiting_by_a_long_one() {
    let mut bench = Bench::new(config(2, 2048));
    let mut long_one = bench.handle.generate(long(1, 1000, 4));
    bench.step();
    let mut short_one = bench.handle.generate(long(2, 20, 4));
    bench.step();
    assert_eq!(steps(&events(&mut short_one)), 1);
    // Nor is the long one starved by a stream of short ones.
    let mut passes = 0;
    let mut seed = 3;
    while steps(&events(&mut long_one)) == 0 {
        if result(&mut short_one).is_some() {
            short_one = bench.handle.generate(long(seed, 200, 1));
            seed += 1;
        }
        bench.step();
        passes += 1;
        assert!(passes < 200);
    }
}

#[test]
fn more_answers_than_a_pass_holds_take_turns_and_let_prompts_in() {
    let config = config(4, 256).also(|config| config.micro_batch = 2);
    let mut bench = Bench::new(config);
    let mut running: Vec<_> = (0..3).map(|seed| bench.handle.generate(long(seed, 6, 200))).collect();
    while running.iter_mut().any(|generation| steps(&events(generation)) == 0) {
        bench.step();
    }
    let mut last = bench.handle.generate(long(9, 40, 4));
    let mut counts = [0; 3];
    let mut passes = 0;
    while steps(&events(&mut last)) == 0 {
        bench.step();
        passes += 1;
        for (count, generation) in counts.iter_mut().zip(&mut running) {
            *count += steps(&events(generation));
        }
        assert!(passes < 150, "the prompt is starved");
    }
    assert!(counts.iter().all(|count| count.abs_diff(counts[0]) <= 1), "{counts:?}");
    assert!(counts[0] >= passes / 3, "{counts:?} in {passes} passes");
}

fn progress(events: &[Event]) -> Vec<(u32, u32, u32)> {
    let triple = |progress: &Progress| (progress.total, progress.cached, progress.processed);
    events
        .iter()
        .filter_map(|event| match event {
            Event::Progress(progress) => Some(triple(progress)),
            _ => None,
        })
        .collect()
}

#[test]
fn progress_starts_at_the_cached_part_and_goes_batch_by_batch() {
    let mut bench = Bench::new(config(1, 512));
    bench.complete(request(prompt(1, 50)));
    let longer = prompt(1, 50).also(|tokens| tokens.extend_from_slice(&prompt(7, 200)[1..]));
    let mut generation = bench.handle.generate(request(longer).also(|request| request.progress = true));
    bench.settle();
    let reported = progress(&events(&mut generation));
    assert_eq!(reported, [(249, 50, 50), (249, 50, 114), (249, 50, 178), (249, 50, 242), (249, 50, 249)]);
}

#[test]
fn questions_are_answered_between_the_passes_of_a_long_prompt() {
    let mut bench = Bench::new(config(1, 1024));
    let _generation = bench.handle.generate(long(1, 900, 4));
    bench.step();
    let handle = bench.handle.clone();
    let slots = bench.ask(handle.slots()).unwrap();
    let task = slots[0].task.as_ref().unwrap();
    assert!(slots[0].processing);
    assert!((32..=64).contains(&task.processed), "{}", task.processed);
    assert!(bench.controls.passes().len() <= 2);
}

#[test]
fn a_failed_pass_fails_its_requests_and_no_others() {
    let mut bench = Bench::new(config(2, 256));
    let kept = bench.complete(request(prompt(1, 36)));
    let mut failing = bench.handle.generate(long(2, 60, 4));
    bench.step();
    bench.controls.fail_next(1);
    bench.settle();
    assert!(matches!(result(&mut failing), Some(Err(EngineError::Backend(_)))));
    // What the passes before had computed is still there, the spoilt cells are not.
    assert_eq!(bench.slot_tokens(), [32, kept.slot_tokens]);
    let fresh = Bench::new(config(2, 256)).complete(long(2, 60, 4));
    let again = bench.complete(long(2, 60, 4));
    assert_eq!((again.timings.cached, &again.text), (32, &fresh.text));
    assert_eq!(bench.reuse(request(prompt(1, 36))), (1, 35, 1));
}

#[test]
fn a_failed_pass_takes_everything_that_was_in_it() {
    let mut bench = Bench::new(config(3, 256));
    let mut both: Vec<_> = (1..3).map(|seed| bench.handle.generate(long(seed, 10, 50))).collect();
    bench.run_passes(5);
    bench.controls.fail_next(1);
    bench.step();
    let mut later = bench.handle.generate(long(3, 10, 4));
    bench.settle();
    assert!(
        both.iter_mut().all(|generation| matches!(result(generation), Some(Err(EngineError::Backend(_)))))
    );
    assert!(result(&mut later).unwrap().is_ok());
}

/// Two slots of 256 tokens in a pool of 256.
fn tight() -> Bench {
    Bench::new(config(2, 256).also(|config| {
        (config.unified, config.pool_tokens) = (true, 256);
        config.cache_idle_slots = false;
    }))
}

#[test]
fn a_full_pool_takes_from_idle_slots_first() {
    let mut bench = tight();
    bench.complete(request(prompt(1, 150)));
    let finished = bench.complete(request(prompt(2, 200)));
    assert_eq!(finished.timings.predicted, 4);
    assert_eq!(bench.slot_tokens(), [203, 0]);
    // The reference loses it here.
    assert_eq!(bench.reuse(request(prompt(1, 150))).1, 149);
}

/// The reference fails every request.
#[test]
fn a_full_pool_costs_the_youngest_request_and_no_other() {
    let alone = tight().complete(long(1, 100, 150));
    let mut bench = tight();
    let mut old = bench.handle.generate(long(1, 100, 150));
    bench.step();
    let mut young = bench.handle.generate(long(2, 100, 150));
    bench.settle();
    let error = result(&mut young).unwrap().unwrap_err();
    assert!(matches!(error, EngineError::PoolExhausted), "{error}");
    let old = result(&mut old).unwrap().unwrap();
    assert_eq!((old.timings.predicted, old.text), (150, alone.text));
}

#[test]
fn a_full_pool_makes_a_prompt_wait_while_others_go_on() {
    let mut bench = tight();
    let mut old = bench.handle.generate(long(1, 100, 50));
    bench.step();
    let mut young = bench.handle.generate(long(2, 200, 4));
    bench.settle();
    assert_eq!(result(&mut old).unwrap().unwrap().timings.predicted, 50);
    assert_eq!(result(&mut young).unwrap().unwrap().timings.predicted, 4);
}

#[test]
fn silence_is_broken_by_a_heartbeat() {
    let mut bench = Bench::new(config(1, 1024));
    bench.controls.set_cost(Duration::from_secs(2), Duration::ZERO);
    let every =
        |seconds| move |request: &mut Generate| request.heartbeat = Some(Duration::from_secs(seconds));
    // Ten passes of two seconds before the first token.
    let mut generation = bench.handle.generate(request(prompt(1, 320)).also(every(5)));
    bench.settle();
    let beats = events(&mut generation).iter().filter(|event| matches!(event, Event::Heartbeat)).count();
    assert_eq!(beats, 3);
    let mut quiet = bench.handle.generate(request(prompt(2, 320)));
    bench.settle();
    assert!(!events(&mut quiet).iter().any(|event| matches!(event, Event::Heartbeat)));
}

#[test]
fn times_are_the_clocks() {
    let mut bench = Bench::new(config(1, 256));
    bench.controls.set_cost(Duration::from_millis(10), Duration::from_millis(1));
    let finished = bench.complete(long(1, 40, 5));
    // 32 + 8 tokens in two passes, then four passes of one token.
    assert_eq!(finished.timings.prompt_time, Duration::from_millis(60));
    assert_eq!(finished.timings.predicted_time, Duration::from_millis(44));
    let handle = bench.handle.clone();
    let metrics = bench.ask(handle.metrics()).unwrap();
    assert_eq!((metrics.prompt_tokens, metrics.predicted_tokens, metrics.predicted_steps), (40, 5, 4));
    assert_eq!((metrics.decodes, metrics.busy_slots, metrics.tokens_max), (6, 6, 44));
    assert_eq!(metrics.prompt_time, Duration::from_millis(60));
    assert_eq!(metrics.predicted_time, Duration::from_millis(44));
    assert_eq!((metrics.processing, metrics.deferred), (0, 0));
}

#[test]
fn an_engine_without_a_store_still_erases() {
    let config = config(1, 256);
    let model = ScriptedModel::new(config.kv_blocks(), config.micro_batch);
    let clock = model.controls().clock().clone();
    let (engine, handle) = reprise_engine::Engine::new(
        model,
        reprise_engine::testing::text(),
        Stores::<TestStore, MemoryBlocks> { slots: None, blocks: None },
        clock,
        config,
    );
    let ask = async move {
        let refused = handle.save(0, "a".into()).await;
        assert!(matches!(refused, Err(EngineError::Unsupported(_))));
        assert_eq!(handle.erase(0).await.unwrap(), 0);
    };
    let (ended, ()) = futures::executor::block_on(async { futures::join!(engine.run(), ask) });
    assert_eq!(ended, reprise_engine::Ended::Drained);
}
