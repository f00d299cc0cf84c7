//! Several answers to one prompt: it is evaluated once.

use crate::harness::{Also, Bench, config, events, prompt, request, started};
use reprise_engine::{EngineError, Event, Finished, Generate};

fn copies(seed: u32, length: usize, copies: u32) -> Generate {
    request(prompt(seed, length)).also(|request| {
        request.copies = copies;
        request.limits.predict = Some(12);
        request.sampling.temperature = 1.0;
        request.sampling.seed = 42;
    })
}

fn finished(events: Vec<Event>) -> Vec<Finished> {
    let mut all: Vec<Finished> = events
        .into_iter()
        .filter_map(|event| match event {
            Event::Finished(finished) => Some(*finished),
            Event::Failed(error) => panic!("{error}"),
            _ => None,
        })
        .collect();
    all.sort_by_key(|finished| finished.copy);
    all
}

#[test]
fn the_prompt_is_evaluated_once_and_each_copy_has_its_seed() {
    let mut bench = Bench::new(config(3, 256));
    let mut generation = bench.handle.generate(copies(1, 50, 3));
    bench.settle();
    let prefilled: u32 = bench
        .controls
        .passes()
        .iter()
        .flatten()
        .filter(|entry| entry.start < 50)
        .map(|entry| entry.count)
        .sum();
    assert_eq!(prefilled, 50);
    let all = finished(events(&mut generation));
    assert_eq!(all.iter().map(|copy| copy.slot).collect::<Vec<_>>(), [2, 0, 1]);
    for (index, copy) in (0..).zip(&all) {
        assert_eq!((copy.timings.cached, copy.timings.prompt), (0, 50));
        assert_eq!((copy.seed, copy.request.sampling.seed), (42 + index, 42 + index));
        let alone = Bench::new(config(1, 256))
            .complete(copies(1, 50, 1).also(|request| request.sampling.seed = 42 + index));
        assert_eq!(copy.text, alone.text, "copy {index}");
    }
    assert_ne!(all[0].text, all[1].text);
    // Only the first copy's slot is kept.
    let tokens = all[0].slot_tokens;
    assert_eq!(bench.slot_tokens(), [0, 0, tokens]);
}

#[test]
fn all_copies_start_together_or_wait() {
    let mut bench = Bench::new(config(2, 256));
    let mut running = bench.handle.generate(copies(1, 20, 1));
    bench.step();
    let mut both = bench.handle.generate(copies(2, 20, 2));
    bench.step();
    assert!(started(&events(&mut both)).is_empty());
    bench.settle();
    assert_eq!(finished(events(&mut running)).len(), 1);
    let all = events(&mut both);
    assert_eq!(started(&all), [0, 1]);
    assert_eq!(finished(all).len(), 2);
}

#[test]
fn zero_tokens_for_all_copies() {
    let mut bench = Bench::new(config(2, 256));
    let mut generation =
        bench.handle.generate(copies(1, 40, 2).also(|request| request.limits.predict = Some(0)));
    bench.settle();
    let all = finished(events(&mut generation));
    assert_eq!(all.iter().map(|copy| copy.timings.predicted).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(bench.slot_tokens(), [0, 40]);
}

#[test]
fn a_cancelled_request_frees_all_its_slots() {
    let mut bench = Bench::new(config(2, 256));
    let generation = bench.handle.generate(copies(1, 100, 2));
    bench.step();
    drop(generation);
    bench.settle();
    assert_eq!(bench.slot_tokens(), [0, 32]);
    let handle = bench.handle.clone();
    assert!(bench.ask(handle.slots()).unwrap().iter().all(|slot| !slot.processing));
}

#[test]
fn a_failed_pass_is_told_once() {
    let mut bench = Bench::new(config(2, 256));
    let mut generation = bench.handle.generate(copies(1, 20, 2));
    bench.run_passes(3);
    bench.controls.fail_next(1);
    bench.settle();
    let failures = events(&mut generation)
        .into_iter()
        .filter(|event| matches!(event, Event::Failed(EngineError::Backend(_))))
        .count();
    assert_eq!(failures, 1);
    let handle = bench.handle.clone();
    assert!(bench.ask(handle.slots()).unwrap().iter().all(|slot| !slot.processing));
}

/// The reference refuses this: its copies share cells that a shift would move.
#[test]
fn copies_can_shift_their_context() {
    let run = |copies| {
        let config = config(2, 256).also(|config| config.context_shift = true);
        let mut bench = Bench::new(config);
        let mut generation = bench.handle.generate(request(prompt(1, 200)).also(|request| {
            request.copies = copies;
            request.limits.predict = Some(150);
        }));
        bench.settle();
        finished(events(&mut generation)).into_iter().map(|copy| copy.text).collect::<Vec<_>>()
    };
    let alone = run(1).remove(0);
    assert_eq!(run(2), [alone.clone(), alone]);
}
