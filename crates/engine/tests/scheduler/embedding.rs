//! Hidden states, and what the engine shows of its slots.

use crate::harness::{Also, Bench, config, events, prompt, request, result, steps};
use futures::FutureExt;
use reprise_engine::EngineError;

#[test]
fn every_token_has_a_row_in_order() {
    let mut bench = Bench::new(config(1, 256));
    bench.complete(request(prompt(1, 70)));
    let handle = bench.handle.clone();
    let rows = bench.ask(handle.embed(prompt(1, 70))).unwrap();
    // The scripted model's hidden state is the token and its position.
    let expected: Vec<f32> = (0..)
        .zip(prompt(1, 70))
        .flat_map(|(position, token): (u32, _)| [token.0 as f32, position as f32])
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn it_shares_passes_with_answers_and_waits_for_a_slot() {
    let mut bench = Bench::new(config(2, 256));
    let mut running: Vec<_> = (0..2)
        .map(|seed| {
            let tokens = if seed == 0 { 6 } else { 60 };
            bench
                .handle
                .generate(request(prompt(seed, 20)).also(|request| request.limits.predict = Some(tokens)))
        })
        .collect();
    bench.step();
    let handle = bench.handle.clone();
    let mut embedding = Box::pin(handle.embed(prompt(5, 50)));
    assert!((&mut embedding).now_or_never().is_none());
    bench.settle();
    assert_eq!(embedding.now_or_never().unwrap().unwrap().len(), 100);
    let alone = Bench::new(config(2, 256))
        .complete(request(prompt(1, 20)).also(|request| request.limits.predict = Some(60)));
    assert_eq!(result(&mut running[1]).unwrap().unwrap().text, alone.text);
}

#[test]
fn too_long_or_empty_is_refused() {
    let mut bench = Bench::new(config(1, 256));
    let handle = bench.handle.clone();
    let long = bench.ask(handle.embed(prompt(1, 257))).unwrap_err();
    assert!(matches!(long, EngineError::ContextExceeded { prompt: 257, context: 256 }));
    assert!(matches!(bench.ask(handle.embed(Vec::new())), Err(EngineError::Invalid(_))));
    assert_eq!(bench.ask(handle.embed(prompt(1, 256))).unwrap().len(), 512);
}

#[test]
fn a_failed_pass_fails_it() {
    let mut bench = Bench::new(config(1, 256));
    bench.controls.fail_next(1);
    let handle = bench.handle.clone();
    assert!(matches!(bench.ask(handle.embed(prompt(1, 50))), Err(EngineError::Backend(_))));
}

#[test]
fn slots_are_shown_while_they_run_and_after() {
    let mut bench = Bench::new(config(2, 256));
    let handle = bench.handle.clone();
    let fresh = bench.ask(handle.slots()).unwrap();
    assert!(fresh.iter().all(|slot| !slot.processing && slot.task.is_none() && slot.tokens == 0));
    assert_eq!((fresh[0].id, fresh[1].id, fresh[1].context), (0, 1, 256));

    let mut generation = bench.handle.generate(request(prompt(1, 30)).also(|request| {
        request.limits.predict = Some(20);
    }));
    bench.run_passes(5);
    let busy = bench.ask(handle.slots()).unwrap().remove(1);
    let task = busy.task.unwrap();
    assert!(busy.processing && task.has_next_token);
    assert_eq!((task.processed, task.cached), (30, 0));
    assert_eq!(task.remaining, Some(20 - task.decoded));
    assert_eq!(busy.tokens, 30 + task.decoded - 1);
    assert_eq!(task.generated.len(), task.decoded as usize);

    bench.settle();
    let idle = bench.ask(handle.slots()).unwrap().remove(1);
    let task = idle.task.unwrap();
    assert!(!idle.processing && !task.has_next_token);
    assert_eq!((task.processed, task.cached, task.decoded, task.remaining), (0, 0, 0, None));
    assert_eq!((idle.tokens, task.generated.len()), (49, 20));
    assert_eq!(steps(&events(&mut generation)), 20);
}
