//! What a pass is asked for: the best logits where they decide the token, all of them elsewhere.

use crate::harness::{Also, Bench, config, prompt, request};
use reprise_engine::sample::Sampling;
use reprise_engine::{Generate, Probabilities};
use reprise_model::Output;

fn free(change: impl FnOnce(&mut Generate)) -> Generate {
    request(prompt(1, 20)).also(|request| {
        request.limits.ignore_eos = false;
        change(request);
    })
}

/// What the passes of a request asked for, without repetitions, and the text.
fn outputs(request: Generate) -> (Vec<Output>, String) {
    let mut bench = Bench::new(config(1, 256));
    let text = bench.complete(request).text;
    let mut outputs: Vec<Output> = bench.controls.passes().into_iter().flatten().map(|e| e.output).collect();
    outputs.dedup();
    (outputs, text)
}

#[test]
fn greedy_requests_ask_for_the_best_logit() {
    let (asked, text) = outputs(free(|_| {}));
    assert_eq!(asked, [Output::Top(1)]);
    // The same answer from all of the logits.
    let probabilities = Some(Probabilities { top: 1, post_sampling: false });
    let (asked, same) = outputs(free(|request| request.probabilities = probabilities));
    assert_eq!((asked, same), (vec![Output::LastLogits], text));
}

#[test]
fn sampled_requests_ask_for_as_many_as_top_k_keeps() {
    let sampling = Sampling { seed: 3, top_k: 7, ..Sampling::default() };
    assert_eq!(outputs(free(|request| request.sampling = sampling)).0, [Output::Top(7)]);
}

#[test]
fn banned_ends_ask_for_all() {
    assert_eq!(outputs(free(|request| request.limits.ignore_eos = true)).0, [Output::LastLogits]);
}

#[test]
fn requests_of_a_pass_ask_each_for_their_own() {
    let mut bench = Bench::new(config(2, 256));
    let greedy = free(|request| request.limits.predict = Some(6));
    let alone = bench.complete(greedy.clone()).text;
    bench.erase(0);
    let mut first = bench.handle.generate(greedy);
    let _second = bench.handle.generate(request(prompt(2, 10)).also(|r| r.limits.predict = Some(6)));
    bench.settle();
    assert_eq!(crate::harness::result(&mut first).unwrap().unwrap().text, alone);
    let mixed =
        |outputs: Vec<Output>| outputs.contains(&Output::Top(1)) && outputs.contains(&Output::LastLogits);
    assert!(bench.controls.passes().into_iter().any(|pass| mixed(pass.iter().map(|e| e.output).collect())));
}
