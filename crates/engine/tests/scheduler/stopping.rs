//! When an answer ends, and what it says then.

use std::time::Duration;

use crate::harness::{Also, Bench, config, events, prompt, request, result};
use reprise_engine::testing::{EOS, byte, letters};
use reprise_engine::{EngineConfig, Event, Finished, Generate, Probabilities, StopReason};
use reprise_gguf::TokenId;

/// A request without limits of its own, to a model that says `answer`.
fn run(answer: Vec<TokenId>, change: impl FnOnce(&mut Generate)) -> (Finished, Vec<String>) {
    run_in(config(1, 256), answer, change)
}

/// How it ended, and the text of each step.
fn run_in(
    config: EngineConfig,
    answer: Vec<TokenId>,
    change: impl FnOnce(&mut Generate),
) -> (Finished, Vec<String>) {
    let mut bench = Bench::saying(config, 10, answer);
    let mut generation = bench.handle.generate(
        request(prompt(1, 10))
            .also(|request| {
                request.limits.predict = None;
                request.limits.ignore_eos = false;
            })
            .also(change),
    );
    bench.settle();
    let events = events(&mut generation);
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some(step.text.clone()),
        _ => None,
    });
    let steps = steps.collect();
    let finished = events.into_iter().find_map(|event| match event {
        Event::Finished(finished) => Some(*finished),
        Event::Failed(error) => panic!("{error}"),
        _ => None,
    });
    (finished.expect("it ends"), steps)
}

#[test]
fn the_end_of_generation_ends_it() {
    let (finished, steps) = run(letters("hello"), |_| {});
    assert_eq!(finished.stop, StopReason::EndOfGeneration);
    assert_eq!((finished.text.as_str(), finished.tail.as_str()), ("hello", ""));
    assert_eq!(steps, ["h", "e", "l", "l", "o", ""]);
    assert_eq!(finished.tokens.last(), Some(&EOS));
    assert_eq!((finished.timings.predicted, finished.slot_tokens), (6, 15));
}

#[test]
fn the_end_of_generation_shows_as_text_when_asked_for() {
    let (finished, _) = run(letters("hi"), |request| request.special = true);
    assert_eq!(finished.text, "hi</s>");
}

#[test]
fn a_stop_string_over_several_tokens_is_held_back_and_removed() {
    let (finished, steps) =
        run(letters("go to the end now"), |request| request.stops = vec!["the end".into(), "zzz".into()]);
    assert_eq!(finished.stop, StopReason::Word("the end".into()));
    assert_eq!(finished.text, "go to ");
    assert_eq!(steps, ["g", "o", " ", "", "to", " ", "", "", "", "", "", "", ""]);
    assert_eq!(finished.tokens, letters("go to the end"));
}

#[test]
fn what_only_looked_like_a_stop_string_comes_out() {
    let (finished, steps) = run(letters("there"), |request| request.stops = vec!["then".into()]);
    assert_eq!((finished.text.as_str(), finished.tail.as_str()), ("there", ""));
    assert_eq!(steps, ["", "", "", "ther", "e", ""]);
    // Held back at the end: the last token releases it if it ends the generation, else it is the tail.
    let (finished, steps) = run(letters("ath"), |request| request.stops = vec!["then".into()]);
    assert_eq!((finished.tail.as_str(), steps.last().unwrap().as_str()), ("", "th"));
    let (finished, steps) = run(letters("ath"), |request| {
        request.stops = vec!["then".into()];
        request.limits.predict = Some(3);
    });
    assert_eq!((finished.text.as_str(), finished.tail.as_str()), ("ath", "th"));
    assert_eq!(steps, ["a", "", ""]);
}

#[test]
fn a_character_of_several_tokens_is_one_step() {
    let answer: Vec<TokenId> = "a\u{e9}\u{1f600}b".bytes().map(byte).collect();
    let (finished, steps) = run(answer, |_| {});
    assert_eq!(steps, ["a", "\u{e9}", "\u{1f600}", "b", ""]);
    assert_eq!((finished.text.as_str(), finished.tokens.len()), ("a\u{e9}\u{1f600}b", 9));
    let broken: Vec<TokenId> = "a\u{1f600}".bytes().take(3).map(byte).collect();
    let (finished, steps) = run(broken, |request| request.limits.predict = Some(3));
    assert_eq!(steps, ["a"]);
    assert_eq!((finished.text.as_str(), finished.tail.as_str()), ("a\u{fffd}", "\u{fffd}"));
}

#[test]
fn the_number_of_tokens_is_a_limit() {
    let (finished, _) = run(letters("abcdef"), |request| request.limits.predict = Some(3));
    assert_eq!((finished.stop, finished.text.as_str()), (StopReason::Limit, "abc"));
    // The end of the generation has the last word.
    let (finished, _) = run(letters("ab"), |request| request.limits.predict = Some(3));
    assert_eq!(finished.stop, StopReason::EndOfGeneration);
}

#[test]
fn a_line_with_too_little_indentation_is_cut() {
    let (finished, _) = run(letters("a\n  b\n c"), |request| request.limits.indent = 2);
    assert_eq!((finished.stop, finished.text.as_str()), (StopReason::Limit, "a\n  b\n "));
    assert!(finished.has_new_line);
}

#[test]
fn the_time_limit_is_looked_at_on_a_new_line() {
    let answer = || letters("abcdefgh\nij\nkl");
    let timed = |limit| {
        let mut bench = Bench::saying(config(1, 256), 10, answer());
        bench.controls.set_cost(Duration::from_millis(10), Duration::ZERO);
        bench.complete(request(prompt(1, 10)).also(|request| {
            request.limits.predict = None;
            request.limits.ignore_eos = false;
            request.limits.time = Some(Duration::from_millis(limit));
        }))
    };
    assert_eq!(timed(50).text, "abcdefgh\n");
    assert_eq!(timed(100).text, "abcdefgh\nij\n");
    assert_eq!(timed(1000).stop, StopReason::EndOfGeneration);
}

#[test]
fn a_full_context_ends_it() {
    for (length, predict, sampled, stop_tokens) in
        [(255, None, 1, 255), (250, Some(100), 6, 255), (10, None, 246, 255)]
    {
        let finished = Bench::new(config(1, 256)).complete(request(prompt(1, length)).also(|request| {
            request.limits.predict = predict;
        }));
        assert_eq!(finished.stop, StopReason::Limit);
        assert!(finished.truncated);
        assert_eq!((finished.timings.predicted, finished.slot_tokens), (sampled, stop_tokens), "{length}");
    }
}

#[test]
fn a_context_shift_drops_what_the_reference_drops() {
    let shifted = |keep, discard| {
        let config = config(2, 256).also(|config| config.context_shift = true);
        let finished = Bench::new(config).complete(request(prompt(1, 200)).also(|request| {
            request.limits.predict = Some(200);
            (request.limits.keep, request.limits.discard) = (keep, discard);
        }));
        assert!(finished.truncated);
        assert_eq!((finished.stop, finished.timings.predicted), (StopReason::Limit, 200));
        finished.slot_tokens
    };
    assert_eq!(shifted(0, 0), 145);
    assert_eq!(shifted(5, 0), 151);
    assert_eq!(shifted(-1, 0), 237);
    assert_eq!(shifted(5, 20), 239);
}

#[test]
fn after_a_shift_only_the_kept_part_is_reused() {
    let config = config(2, 256).also(|config| config.context_shift = true);
    let run = |keep| {
        let mut bench = Bench::new(config.clone());
        bench.complete(request(prompt(1, 200)).also(|request| {
            request.limits.predict = Some(200);
            request.limits.keep = keep;
        }));
        bench.reuse(request(prompt(1, 200)))
    };
    assert_eq!(run(5).0, 0, "less than a tenth: another slot");
    assert_eq!(run(-1), (1, 199, 1));
}

#[test]
fn probabilities_go_with_the_text() {
    let with_probs = |stream| {
        run(letters("abcstop"), |request| {
            request.stops = vec!["stop".into()];
            request.stream = stream;
            request.probabilities = Some(Probabilities { top: 2, post_sampling: false });
        })
        .0
    };
    let (whole, stream) = (with_probs(false), with_probs(true));
    assert_eq!(stream.probs.len(), 7);
    let chosen: Vec<TokenId> = stream.probs.iter().map(|probs| probs.chosen.id).collect();
    assert_eq!(chosen, letters("abcstop"));
    assert!(stream.probs.iter().all(|probs| probs.top.len() == 2 && probs.top[0].id == probs.chosen.id));
    // Without a stream the stop string is cut out of the probabilities too, as the tokens of the word by itself.
    assert_eq!(whole.probs.len(), 3);
}

#[test]
fn a_random_seed_is_reported_and_repeats_the_answer() {
    let ask = |seed| {
        Bench::new(config(1, 256)).complete(request(prompt(1, 20)).also(|request| {
            request.sampling.temperature = 1.0;
            request.sampling.seed = seed;
            request.limits.predict = Some(30);
        }))
    };
    let random = ask(u32::MAX);
    assert_ne!(random.seed, u32::MAX);
    assert_eq!(random.request.sampling.seed, u32::MAX);
    assert_eq!(ask(random.seed).tokens, random.tokens);
}

#[test]
fn a_stream_ends_after_the_last_event() {
    let mut bench = Bench::saying(config(1, 256), 10, letters("ab"));
    let mut generation = bench.handle.generate(request(prompt(1, 10)));
    bench.settle();
    assert!(result(&mut generation).unwrap().is_ok());
    assert!(events(&mut generation).is_empty());
}
