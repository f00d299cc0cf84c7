//! Which slot a request gets, and how much of it is reused: sequences measured on llama-server.

use reprise_gguf::TokenId;
use reprise_kv::{CacheConfig, Millis, Ppm, Prompt, Reason, SlotId, Source, Stale};

use crate::rig::{Rig, config, pinned, prompt, text};

/// The prompts of the measurements, and the tokens generated on top (of which the last is not cached).
fn a() -> Vec<TokenId> {
    text(1, 36)
}
fn b() -> Vec<TokenId> {
    text(2, 42)
}
fn c() -> Vec<TokenId> {
    text(3, 51)
}
fn generated() -> Vec<TokenId> {
    text(9, 4)
}

#[test]
fn unrelated_prompts_fill_the_slots_from_the_highest_down() {
    let mut rig = Rig::new(config(4));
    let slots = [1, 2, 3, 4].map(|name| rig.run(&prompt(&text(name, 40)), &[]).slot);
    assert_eq!(slots, [3, 2, 1, 0]);
}

#[test]
fn one_slot_sequence_of_reuse_counts() {
    let mut rig = Rig::new(config(1));
    let (a, b) = (a(), b());
    let longer = [a.as_slice(), &text(4, 6)[1..]].concat();
    let again = Prompt { cache_prompt: false, ..prompt(&a) };
    let half = prompt(&a[..18]);
    let requests = [
        prompt(&a),
        prompt(&a),
        prompt(&longer),
        half,
        again,
        prompt(&a),
        prompt(&b),
        prompt(&a),
        prompt(&b),
    ];
    let counts = requests.map(|request| rig.run(&request, &generated()).counts());
    assert_eq!(counts, [(0, 36), (35, 1), (36, 5), (17, 1), (0, 36), (35, 1), (1, 41), (35, 1), (41, 1)]);
}

#[test]
fn all_but_the_last_generated_token_is_cached() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&a()), &generated());
    assert_eq!(rig.tokens(0).len(), 39);
}

#[test]
fn without_cache_prompt_nothing_is_reused_but_the_tokens_are_kept() {
    let mut rig = Rig::new(config(1));
    let a = a();
    let again = Prompt { cache_prompt: false, ..prompt(&a) };
    let counts = [prompt(&a), again, prompt(&a)].map(|request| rig.run(&request, &[]).cache_n);
    assert_eq!(counts, [0, 0, 35]);
}

#[test]
fn a_prompt_of_one_token_is_evaluated_again() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&a()), &[]);
    assert_eq!(rig.run(&prompt(&[TokenId(1)]), &[]).counts(), (0, 1));
}

#[test]
fn zero_similarity_alternates_between_two_slots() {
    let mut rig = Rig::new(CacheConfig { similarity: Ppm(0), ..config(2) });
    let done = [(); 3].map(|()| rig.run(&prompt(&a()), &generated()).at());
    // llama-server evaluates the second anew.
    assert_eq!(done, [(1, 0), (0, 35), (1, 35)]);
}

#[test]
fn similarity_must_be_exceeded() {
    let (mut rig, held, asked) = (Rig::new(config(2)), text(1, 10), text(2, 10));
    rig.run(&pinned(&held, 0), &[]);
    // One token of ten is the threshold itself.
    assert_eq!(rig.run(&prompt(&asked), &[]).slot, 1);
    // Two of eleven are more, even if another slot is empty.
    let mut rig = Rig::new(config(2));
    rig.run(&pinned(&held, 0), &[]);
    let asked = [&held[..2], &text(2, 10)[1..]].concat();
    let done = rig.run(&prompt(&asked), &[]);
    assert_eq!((done.at(), done.placement.reason), ((0, 2), Reason::Similarity(Ppm(181_818))));
}

#[test]
fn similarity_one_never_matches() {
    let mut rig = Rig::new(CacheConfig { similarity: Ppm::ONE, ..config(2) });
    let a = a();
    assert_eq!([(); 2].map(|()| rig.run(&prompt(&a), &[]).slot), [1, 0]);
}

#[test]
fn the_lowest_of_equally_similar_slots_is_taken() {
    let mut rig = Rig::new(config(3));
    let a = a();
    for slot in [2, 1] {
        rig.run(&pinned(&a, slot), &[]);
    }
    assert_eq!(rig.run(&prompt(&a), &[]).slot, 1);
}

#[test]
fn the_least_recently_used_slot_is_taken() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 0, ..config(2) });
    let slots = [a(), b(), a(), c(), a(), b()].map(|text| rig.run(&prompt(&text), &[]).at());
    // C takes the slot of B; A stays; B comes back to C's, and to what it left.
    assert_eq!(slots, [(1, 0), (0, 0), (1, 35), (0, 1), (1, 35), (0, 41)]);
}

#[test]
fn a_slot_chosen_as_least_recently_used_still_reuses_its_bos() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 0, ..config(2) });
    let counts = [a(), b(), c()].map(|text| rig.run(&prompt(&text), &generated()).cache_n);
    assert_eq!(counts, [0, 0, 1]);
}

#[test]
fn busy_slots_are_passed_over_and_a_pinned_request_waits_for_its_slot() {
    let mut rig = Rig::new(config(2));
    let (a, b) = (a(), b());
    let first = rig.start(&pinned(&a, 0)).expect("idle");
    assert!(rig.start(&pinned(&b, 0)).is_none());
    let second = rig.start(&prompt(&a)).expect("slot 1 is idle");
    assert_eq!((second.slot, second.reason), (SlotId(1), Reason::OnlyFree));
    assert!(rig.start(&prompt(&b)).is_none());
    let now = rig.now();
    rig.cache.release(first.slot, now);
    assert!(rig.start(&pinned(&b, 0)).is_some());
}

#[test]
fn slot_ids_wrap() {
    let mut rig = Rig::new(config(2));
    assert_eq!(rig.run(&pinned(&a(), 7), &[]).slot, 1);
    // Unlike llama-server's, a wrapped id finds what its slot holds.
    assert_eq!(rig.run(&pinned(&a(), 7), &[]).at(), (1, 35));
}

#[test]
fn reasons_read_well() {
    let reasons =
        [Reason::Pinned, Reason::Similarity(Ppm(834_999)), Reason::LeastRecentlyUsed, Reason::OnlyFree];
    let texts = reasons.map(|reason| reason.to_string());
    assert_eq!(texts, ["pinned", "similarity 0.83", "least recently used", "only free"]);
    assert_eq!(Reason::Similarity(Ppm::ONE).to_string(), "similarity 1.00");
}

#[test]
fn a_placement_says_what_is_lost() {
    let mut rig = Rig::new(config(1));
    let a = text(1, 200);
    rig.start(&prompt(&a)).expect("idle");
    rig.evaluate(SlotId(0), &a);
    // What is moved is held by its slot alone.
    let work = rig.cache.shift(SlotId(0), 64, 36);
    rig.memory.carry_out(&work);
    let now = rig.now();
    rig.cache.release(SlotId(0), now);
    let placement = rig.run(&prompt(&b()), &[]).placement;
    assert_eq!(placement.evicted[0].to_string(), "100 tokens of slot 0");
    assert_eq!((placement.from, placement.evicted_tokens()), (Source::Slot, 100));
}

#[test]
fn idle_time_is_reported() {
    let mut rig = Rig::new(config(1));
    let a = a();
    assert_eq!(rig.run(&prompt(&a), &[]).placement.idle, None);
    let released = rig.cache.slot(SlotId(0)).last_used.expect("it has run");
    let placement = rig.cache.plan(&prompt(&a), Millis(released.0 + 1_500)).expect("idle");
    assert_eq!(placement.idle, Some(1_500));
}

#[test]
fn a_plan_changes_nothing_and_goes_stale() {
    let mut rig = Rig::new(config(2));
    let (a, b) = (a(), b());
    let first = rig.cache.plan(&prompt(&a), Millis(0)).expect("idle");
    assert_eq!(rig.cache.plan(&prompt(&a), Millis(0)), Some(first.clone()));
    rig.run(&prompt(&b), &[]);
    assert_eq!(rig.cache.apply(first).map(|applied| applied.placement), Err(Stale));
    rig.verify();
}
