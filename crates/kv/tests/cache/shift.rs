//! Context shift: llama-server's figures, and what the slot holds afterwards.

use reprise_gguf::TokenId;
use reprise_kv::{CacheConfig, ContextShift, SlotId};

use crate::rig::{Rig, config, prompt, text};

/// The measured case: context 256, prompt 200, generation until the slot holds 255 tokens.
const PROMPT: u32 = 200;

fn shift(n_keep: i64, n_discard: i64) -> (u32, u32, u32) {
    let ContextShift { keep, left, discard } = ContextShift::of(&config(1), 255, PROMPT, n_keep, n_discard);
    (keep, left, discard)
}

#[test]
fn keep_and_discard_follow_the_reference() {
    assert_eq!(shift(0, 0), (1, 254, 127));
    assert_eq!(shift(5, 0), (6, 249, 124));
    assert_eq!(shift(-1, 0), (201, 54, 27));
    assert_eq!(shift(5, 20), (6, 249, 20));
    assert_eq!(shift(400, 0), (252, 3, 1));
}

#[test]
fn keep_and_discard_are_clamped() {
    assert_eq!(shift(5, 10_000), (6, 249, 248));
    assert_eq!(shift(5, -3), (6, 249, 0));
    assert_eq!(shift(i64::MAX, 0), (252, 3, 1));
    let tiny = CacheConfig { slot_context: 2, ..config(1) };
    assert_eq!(ContextShift::of(&tiny, 1, 1, 0, 0), ContextShift { keep: 0, left: 1, discard: 0 });
    let without_bos = CacheConfig { add_bos: false, ..config(1) };
    assert_eq!(ContextShift::of(&without_bos, 255, PROMPT, 0, 0).keep, 0);
}

/// Generates 200 tokens as llama-server does: shift when the next token would fill the slot, then evaluate.
fn generate(n_keep: i64, n_discard: i64) -> (u32, u32) {
    let mut rig = Rig::new(config(1));
    let tokens = text(1, PROMPT);
    rig.start(&prompt(&tokens)).expect("idle");
    let slot = SlotId(0);
    rig.evaluate(slot, &tokens);
    let (mut expected, mut shifts) = (tokens, 0);
    for token in (0..199).map(|i| TokenId(5_000 + i)) {
        if rig.tokens(0).len() + 1 >= 256 {
            let ContextShift { keep, discard, .. } = rig.cache.plan_shift(slot, PROMPT, n_keep, n_discard);
            let work = rig.cache.shift(slot, keep, discard);
            rig.memory.carry_out(&work);
            expected.drain(keep as usize..(keep + discard) as usize);
            shifts += 1;
        }
        rig.evaluate(slot, &[token]);
        expected.push(token);
        rig.verify();
        assert_eq!(rig.tokens(0), expected);
    }
    (shifts, rig.tokens(0).len() as u32)
}

#[test]
fn generation_through_shifts_leaves_the_measured_number_of_tokens() {
    assert_eq!(generate(0, 0).1, 145);
    assert_eq!(generate(5, 0).1, 151);
    assert_eq!(generate(-1, 0), (6, 237));
    assert_eq!(generate(5, 20), (8, 239));
    assert_eq!(generate(400, 0), (144, 255), "a shift for every token");
}

#[test]
fn a_shifted_slot_matches_only_its_kept_prefix() {
    let mut rig = Rig::new(config(2));
    let tokens = text(1, PROMPT);
    rig.start(&prompt(&tokens)).expect("idle");
    rig.evaluate(SlotId(1), &tokens);
    let work = rig.cache.shift(SlotId(1), 6, 97);
    rig.memory.carry_out(&work);
    let now = rig.now();
    rig.cache.release(SlotId(1), now);
    assert_eq!(rig.run(&prompt(&tokens), &[]).at(), (0, 0), "6 of 200 is too little for slot 1");
}

#[test]
fn shifting_a_published_slot_leaves_the_entry_as_it_was() {
    let mut rig = Rig::new(config(2));
    let tokens = text(1, 100);
    rig.run(&prompt(&tokens), &[]);
    rig.cache.publish_idle();
    for (keep, discard) in [(33, 10), (0, 1), (50, 1_000), (1_000, 5)] {
        let work = rig.cache.shift(SlotId(1), keep, discard);
        rig.memory.carry_out(&work);
        rig.verify();
    }
    assert!(rig.cache.held().any(|(_, held, _)| held == tokens));
}
