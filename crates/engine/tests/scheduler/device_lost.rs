//! A device that is gone takes the engine with it, and nobody waits for an answer that never comes.

use crate::harness::{Bench, config, prompt, request, result};
use reprise_engine::{Ended, EngineError};

#[track_caller]
fn lost<T: std::fmt::Debug>(result: Result<T, EngineError>) {
    let error = result.expect_err("the device is gone");
    assert!(matches!(error, EngineError::DeviceLost(_)), "{error}");
    assert_eq!(error.to_string(), "the GPU device was lost: it was taken away; try again");
}

#[test]
fn running_and_waiting_requests_fail_and_the_engine_ends() {
    let mut bench = Bench::new(config(1, 256));
    let mut running = bench.handle.generate(request(prompt(1, 20)));
    let mut waiting = bench.handle.generate(request(prompt(2, 20)));
    bench.step();
    bench.controls.lose_device();
    bench.settle();
    lost(result(&mut running).expect("it has ended"));
    lost(result(&mut waiting).expect("it has ended"));
    assert_eq!(bench.ended, Some(Ended::DeviceLost));
    let handle = bench.handle.clone();
    assert!(matches!(bench.ask(handle.slots()), Err(EngineError::Closed)));
}

#[test]
fn a_save_notices_it_too() {
    let mut bench = Bench::new(config(1, 256));
    bench.complete(request(prompt(1, 20)));
    bench.controls.lose_device();
    let handle = bench.handle.clone();
    lost(bench.ask(handle.save(0, "a".into())));
    bench.settle();
    assert_eq!(bench.ended, Some(Ended::DeviceLost));
}
