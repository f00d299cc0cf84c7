//! A client that leaves: within a step its slot is free, and keeps what was computed.

use reprise_engine::Event;

use crate::harness::{Also, Bench, config, events, prompt, request, result, steps};

#[test]
fn a_prompt_cancelled_in_the_middle_is_continued_where_it_stopped() {
    let mut bench = Bench::new(config(1, 256));
    let generation = bench.handle.generate(request(prompt(1, 200)));
    bench.step();
    bench.step();
    drop(generation);
    bench.settle();
    assert_eq!(bench.controls.passes().len(), 2);
    assert_eq!(bench.slot_tokens(), [64]);
    assert_eq!(bench.reuse(request(prompt(1, 200))), (0, 64, 136));
}

#[test]
fn a_cancelled_answer_stays_in_its_slot() {
    let mut bench = Bench::new(config(1, 256));
    let whole = bench.complete(request(prompt(1, 20)).also(|request| request.limits.predict = Some(12)));
    bench.erase(0);
    let mut generation =
        bench.handle.generate(request(prompt(1, 20)).also(|request| request.limits.predict = Some(100)));
    bench.run_passes(6);
    assert_eq!(steps(&events(&mut generation)), 6);
    drop(generation);
    bench.settle();
    // The sixth token was sampled but not evaluated.
    assert_eq!(bench.slot_tokens(), [25]);
    let continued = [prompt(1, 20), whole.tokens[..8].to_vec()].concat();
    let again = bench.complete(request(continued));
    assert_eq!((again.timings.cached, again.timings.prompt), (25, 3));
    assert_eq!(again.tokens, whole.tokens[8..]);
}

#[test]
fn the_others_do_not_notice() {
    let alone = Bench::new(config(2, 256)).complete(request(prompt(1, 40)).also(long)).text;
    let mut bench = Bench::new(config(2, 256));
    let mut kept = bench.handle.generate(request(prompt(1, 40)).also(long));
    let dropped = bench.handle.generate(request(prompt(2, 120)).also(long));
    bench.run_passes(4);
    drop(dropped);
    bench.settle();
    assert_eq!(result(&mut kept).unwrap().unwrap().text, alone);
}

fn long(request: &mut reprise_engine::Generate) {
    request.limits.predict = Some(30);
}

/// An answer without end, in a context that shifts.
fn endless(bench: &Bench) -> reprise_engine::Generation {
    bench.handle.generate(request(prompt(1, 20)).also(|request| request.limits.predict = None))
}

#[test]
fn a_client_that_does_not_read_is_waited_for_without_growing() {
    let mut bench = Bench::new(config(2, 256).also(|config| config.context_shift = true));
    let mut slow = endless(&bench);
    bench.settle();
    let passes = bench.controls.passes().len();
    assert!((1000..1100).contains(&passes), "{passes}");
    // The others go on, and nothing is lost.
    assert_eq!(bench.complete(request(prompt(2, 20))).timings.predicted, 4);
    let first = events(&mut slow);
    bench.settle();
    let more = events(&mut slow);
    assert!(steps(&more) > 1000);
    let counted: Vec<u32> = [first, more]
        .iter()
        .flatten()
        .filter_map(|event| match event {
            Event::Step(step) => Some(step.predicted),
            _ => None,
        })
        .collect();
    assert!(counted.iter().zip(1..).all(|(predicted, index)| *predicted == index));
}

#[test]
fn a_client_that_leaves_without_reading_is_noticed() {
    let mut bench = Bench::new(config(1, 256).also(|config| config.context_shift = true));
    let slow = endless(&bench);
    let mut waiting = bench.handle.generate(request(prompt(2, 20)));
    bench.settle();
    assert!(result(&mut waiting).is_none());
    drop(slow);
    bench.settle();
    assert!(result(&mut waiting).unwrap().is_ok());
}

#[test]
fn a_prompt_is_not_held_up_by_a_paused_answer() {
    let mut bench = Bench::new(config(2, 256).also(|config| {
        config.context_shift = true;
        config.continuous_batching = false;
    }));
    let _slow = endless(&bench);
    bench.settle();
    assert_eq!(bench.complete(request(prompt(2, 20))).timings.predicted, 4);
}
