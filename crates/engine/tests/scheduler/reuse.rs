//! How many tokens are reused, and in which slot: llama-server's counts.

use crate::harness::{Also, Bench, config, prompt, request};
use reprise_engine::testing::{byte, letters};
use reprise_gguf::TokenId;
use reprise_kv::Ppm;

/// The three unrelated prompts of the reference's measurements.
fn abc() -> [Vec<TokenId>; 3] {
    [prompt(1, 36), prompt(2, 42), prompt(3, 51)]
}

#[test]
fn the_measured_sequence_on_one_slot() {
    let [a, b, _] = abc();
    let mut bench = Bench::new(config(1, 256));
    let longer = a.clone().also(|tokens| tokens.extend((0..5).map(byte)));
    let uncached = request(a.clone()).also(|request| request.cache_prompt = false);
    let sequence = [
        (request(a.clone()), 0, 36),
        (request(a.clone()), 35, 1),
        (request(longer), 36, 5),
        (request(a[..18].to_vec()), 17, 1),
        (uncached, 0, 36),
        (request(a.clone()), 35, 1),
        (request(b.clone()), 1, 41),
        (request(a), 35, 1),
        (request(b), 41, 1),
    ];
    for (index, (request, cached, processed)) in sequence.into_iter().enumerate() {
        assert_eq!(bench.reuse(request), (0, cached, processed), "request {index}");
    }
}

#[test]
fn generated_tokens_are_cached_except_the_last() {
    let [a, ..] = abc();
    let mut bench = Bench::new(config(1, 256));
    let first = bench.complete(request(a.clone()));
    assert_eq!((first.timings.predicted, first.slot_tokens), (4, 39));
    assert_eq!(bench.slot_tokens(), [39]);
    let next_turn = [a, first.tokens, prompt(9, 6)[1..].to_vec()].concat();
    assert_eq!(bench.reuse(request(next_turn)), (0, 39, 6));
}

#[test]
fn an_end_of_generation_token_is_not_cached_either() {
    let [a, ..] = abc();
    let mut bench = Bench::saying(config(1, 256), 36, letters("abc"));
    let finished = bench.complete(request(a).also(|request| {
        request.limits.predict = None;
        request.limits.ignore_eos = false;
    }));
    assert_eq!((finished.timings.predicted, finished.slot_tokens), (4, 39));
}

#[test]
fn zero_tokens_only_warm_the_cache() {
    let [a, ..] = abc();
    let mut bench = Bench::new(config(1, 256));
    let warm = bench.complete(request(a.clone()).also(|request| request.limits.predict = Some(0)));
    assert_eq!((warm.timings.predicted, warm.slot_tokens, warm.text.as_str()), (0, 36, ""));
    assert_eq!(bench.reuse(request(a)), (0, 35, 1));
}

#[test]
fn unrelated_prompts_fill_the_slots_from_the_last() {
    let mut bench = Bench::new(config(4, 256));
    let slots: Vec<u32> = (0..5).map(|seed| bench.reuse(request(prompt(seed, 40))).0).collect();
    assert_eq!(slots, [3, 2, 1, 0, 3]);
}

#[test]
fn similarity_finds_the_slot_again() {
    let [a, b, _] = abc();
    let mut bench = Bench::new(config(2, 256));
    assert_eq!(bench.reuse(request(a.clone())), (1, 0, 36));
    assert_eq!(bench.reuse(request(b.clone())), (0, 0, 42));
    assert_eq!(bench.reuse(request(a)), (1, 35, 1));
    assert_eq!(bench.reuse(request(b)), (0, 41, 1));
}

#[test]
fn without_similarity_the_slots_take_turns() {
    let [a, ..] = abc();
    let mut bench = Bench::new(config(2, 256).also(|config| config.similarity = Ppm(0)));
    assert_eq!(bench.reuse(request(a.clone())), (1, 0, 36));
    // The reference evaluates it anew, since slot 1 was not yet in its prompt cache.
    assert_eq!(bench.reuse(request(a.clone())), (0, 35, 1));
    assert_eq!(bench.reuse(request(a)), (1, 35, 1));
}

#[test]
fn three_prompts_in_two_slots_come_back() {
    let cycle = |ram_blocks| {
        let mut bench = Bench::new(config(2, 256).also(|config| config.ram_blocks = ram_blocks));
        let turns = abc().into_iter().cycle().take(6);
        turns.map(|tokens| bench.reuse(request(tokens)).1).collect::<Vec<_>>()[3..].to_vec()
    };
    assert_eq!(cycle(0), [35, 41, 50], "from memory that the slots do not use");
    assert_eq!(cycle(64), [35, 41, 50]);
}

#[test]
fn a_pin_wraps_as_an_unsigned_number() {
    let mut bench = Bench::new(config(2, 256));
    let mut pinned = |pin| bench.complete(request(prompt(1, 36)).also(|request| request.pin = Some(pin)));
    assert_eq!(pinned(0).slot, 0);
    assert_eq!(pinned(7).slot, 1);
    // 2^64 - 5 is odd.
    let finished = pinned(-5);
    assert_eq!((finished.slot, finished.timings.cached), (1, 35));
    assert_eq!(finished.placed.reason, "pinned");
}

#[test]
fn minus_one_pins_nothing() {
    let mut bench = Bench::new(config(2, 256));
    bench.complete(request(prompt(1, 36)).also(|request| request.pin = Some(0)));
    let again = bench.complete(request(prompt(1, 36)).also(|request| request.pin = Some(-1)));
    assert_eq!((again.slot, again.timings.cached), (0, 35));
    assert_eq!(again.placed.reason, "similarity 1.00");
}

#[test]
fn chunks_behind_a_deletion_are_moved_and_used() {
    let part = |word: &str, count: usize| letters(&word.repeat(count));
    let cached =
        [vec![prompt(0, 1)[0]], part("a", 5), part("b", 5), part("c", 12), part("d", 20), part("e", 9)];
    let wanted = [vec![prompt(0, 1)[0]], part("a", 5), part("c", 12), part("e", 9), part("f", 4)];
    let fill = |bench: &mut Bench| {
        bench.complete(request(cached.concat()).also(|request| request.limits.predict = Some(0)));
    };
    let mut bench = Bench::new(config(1, 256));
    fill(&mut bench);
    let shifted = bench.complete(request(wanted.concat()).also(|request| request.reuse_chunk = 8));
    assert_eq!((shifted.timings.cached, shifted.timings.prompt), (27, 4));
    let mut bench = Bench::new(config(1, 256));
    fill(&mut bench);
    let plain = bench.complete(request(wanted.concat()));
    assert_eq!((plain.timings.cached, plain.timings.prompt), (6, 25));
    assert_eq!(shifted.text, plain.text);
}
