//! Who waits, who goes first, who leaves the queue.

use crate::harness::{Also, Bench, config, events, prompt, request, result, started, steps};
use futures::FutureExt;
use reprise_engine::{Ended, EngineError, Event, Generate, Generation, StopReason};

/// A request that runs for `tokens` passes after its prompt.
fn long(seed: u32, pin: Option<i64>, tokens: u32) -> Generate {
    request(prompt(seed, 20)).also(|request| {
        request.pin = pin;
        request.limits.predict = Some(tokens);
    })
}

fn has_started(generation: &mut Generation) -> bool {
    !started(&events(generation)).is_empty()
}

#[test]
fn a_pinned_request_waits_for_its_slot_while_others_pass() {
    let mut bench = Bench::new(config(2, 256));
    let mut first = bench.handle.generate(long(1, Some(0), 30));
    let mut pinned = bench.handle.generate(long(2, Some(0), 4));
    let mut any = bench.handle.generate(long(3, None, 4));
    bench.step();
    assert_eq!(started(&events(&mut first)), [0]);
    assert!(!has_started(&mut pinned));
    assert_eq!(started(&events(&mut any)), [1]);
    let handle = bench.handle.clone();
    assert_eq!(bench.ask(handle.metrics()).unwrap().deferred, 1);
    bench.settle();
    assert_eq!(result(&mut pinned).unwrap().unwrap().slot, 0);
}

/// The reference moves one request on each release, and it may be one that cannot start.
#[test]
fn a_blocked_request_does_not_block_the_next() {
    let mut bench = Bench::new(config(2, 256));
    let _zero = bench.handle.generate(long(1, Some(0), 40));
    let mut one = bench.handle.generate(long(2, Some(1), 4));
    let mut blocked = bench.handle.generate(long(3, Some(0), 4));
    let mut any = bench.handle.generate(long(4, None, 4));
    while result(&mut one).is_none() {
        bench.step();
    }
    bench.step();
    assert_eq!(started(&events(&mut any)), [1]);
    assert!(!has_started(&mut blocked));
}

#[test]
fn whoever_came_first_starts_first() {
    let mut bench = Bench::new(config(1, 256));
    let mut waiting: Vec<_> = (0..5).map(|seed| bench.handle.generate(long(seed, None, 3))).collect();
    let mut order = Vec::new();
    while order.len() < 5 {
        bench.step();
        order.extend((0..5).filter(|index| has_started(&mut waiting[*index])));
    }
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

/// The reference moves only one waiting request a release, and slot actions release nothing.
#[test]
fn all_slot_actions_that_wait_for_a_slot_are_done_when_it_is_free() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 10));
    bench.step();
    let handle = bench.handle.clone();
    let mut save = Box::pin(handle.save(0, "a".into()));
    let mut erase = Box::pin(handle.erase(0));
    let mut restore = Box::pin(handle.restore(0, "a".into()));
    let waits = |bench: &mut Bench| {
        bench.step();
        (&mut save).now_or_never().is_none()
            & (&mut erase).now_or_never().is_none()
            & (&mut restore).now_or_never().is_none()
    };
    let mut waits = waits;
    assert!(waits(&mut bench));
    assert!(waits(&mut bench));
    bench.settle();
    assert_eq!(result(&mut running).unwrap().unwrap().timings.predicted, 10);
    assert_eq!(save.now_or_never().unwrap().unwrap().tokens, 29);
    assert_eq!(erase.now_or_never().unwrap().unwrap(), 29);
    assert_eq!(restore.now_or_never().unwrap().unwrap().tokens, 29);
}

#[test]
fn a_slot_action_waits_for_no_other_slot() {
    let mut bench = Bench::new(config(2, 256));
    bench.complete(long(1, Some(1), 4));
    let _running = bench.handle.generate(long(2, Some(0), 100));
    bench.step();
    assert_eq!(bench.erase(1), 23);
}

#[test]
fn a_queued_request_whose_client_leaves_is_forgotten() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 10));
    let queued = bench.handle.generate(long(2, None, 4));
    let mut next = bench.handle.generate(long(3, None, 4));
    bench.step();
    drop(queued);
    bench.settle();
    assert!(result(&mut running).unwrap().is_ok());
    assert!(result(&mut next).unwrap().is_ok());
    let handle = bench.handle.clone();
    assert_eq!(bench.ask(handle.metrics()).unwrap().predicted_tokens, 14);
}

#[test]
fn a_request_for_several_slots_is_not_overtaken_for_ever() {
    let mut bench = Bench::new(config(2, 256));
    let mut short: Vec<_> =
        (1..3).map(|seed| bench.handle.generate(long(seed, None, 3 + 2 * seed))).collect();
    bench.step();
    let mut wide = bench.handle.generate(long(9, None, 3).also(|request| request.copies = 2));
    let mut seed = 10;
    let mut passes = 0;
    while started(&events(&mut wide)).is_empty() {
        // Each slot that becomes free has a new request waiting for it.
        seed += 1;
        short.push(bench.handle.generate(long(seed, None, 3)));
        bench.step();
        passes += 1;
        assert!(passes < 200, "starved");
    }
    assert!(passes > 4, "nobody overtook it");
}

#[test]
fn a_draining_engine_finishes_what_it_accepted_and_refuses_the_rest() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 6));
    let mut queued = bench.handle.generate(long(2, None, 6));
    bench.step();
    bench.handle.drain();
    let mut late = bench.handle.generate(long(3, None, 6));
    bench.settle();
    assert_eq!(bench.ended, Some(Ended::Drained));
    assert!(result(&mut running).unwrap().is_ok());
    assert!(result(&mut queued).unwrap().is_ok());
    assert!(matches!(result(&mut late), Some(Err(EngineError::Closed))));
    let mut later = bench.handle.generate(long(4, None, 6));
    assert!(matches!(result(&mut later), Some(Err(EngineError::Closed))));
    let handle = bench.handle.clone();
    assert!(matches!(handle.metrics().now_or_never(), Some(Err(EngineError::Closed))));
}

#[test]
fn the_engine_ends_when_all_handles_are_gone_and_the_work_is_done() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 6));
    let last = std::mem::replace(&mut bench.handle, Bench::new(config(1, 256)).handle);
    drop(last);
    bench.settle();
    assert_eq!(bench.ended, Some(Ended::Drained));
    assert!(result(&mut running).unwrap().is_ok());
}

#[test]
fn an_engine_dropped_in_the_middle_says_so_to_its_clients() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 6));
    bench.step();
    drop(bench);
    assert!(matches!(result(&mut running), Some(Err(EngineError::Closed))));
    assert!(events(&mut running).is_empty());
}

#[test]
fn what_can_never_run_is_refused_at_once_and_touches_no_slot() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(long(1, None, 60));
    bench.step();
    let mut refused = |request: Generate| {
        let mut generation = bench.handle.generate(request);
        bench.step();
        result(&mut generation).expect("not queued").expect_err("refused")
    };
    let too_long = refused(request(prompt(2, 256)));
    assert!(matches!(too_long, EngineError::ContextExceeded { prompt: 256, context: 256 }), "{too_long}");
    let unknown = refused(request(vec![reprise_gguf::TokenId(5000)]));
    assert!(matches!(unknown, EngineError::InvalidTokens));
    let copies = refused(long(2, None, 4).also(|request| request.copies = 2));
    assert!(matches!(copies, EngineError::Invalid(_)));
    bench.settle();
    assert_eq!(steps(&events(&mut running)), 60);
}

#[test]
fn an_empty_prompt_is_answered_with_nothing() {
    let mut bench = Bench::new(config(2, 256));
    let filled = bench.complete(long(1, Some(1), 4));
    let empty = bench.complete(request(Vec::new()).also(|request| request.pin = Some(1)));
    assert_eq!(empty.stop, StopReason::EmptyPrompt);
    assert_eq!(empty.timings, reprise_engine::Timings::default());
    assert_eq!((empty.slot, empty.text.as_str(), empty.slot_tokens), (1, "", filled.slot_tokens));
    assert_eq!(bench.slot_tokens(), [0, filled.slot_tokens]);
}

#[test]
fn the_headers_come_before_the_first_token() {
    let mut bench = Bench::new(config(1, 256));
    let mut generation = bench.handle.generate(request(prompt(1, 100)));
    bench.step();
    let first = events(&mut generation);
    assert!(matches!(first.as_slice(), [Event::Started(placed)] if placed.slot == 0 && placed.cached == 0));
}
