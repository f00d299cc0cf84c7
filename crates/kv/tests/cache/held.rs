//! What is held beyond the slots: found, shared, kept apart, given up.

use reprise_gguf::TokenId;
use reprise_kv::{BLOCK_TOKENS, CacheConfig, Owner, Ppm, Prompt, SlotId, Source, Tenant};

use crate::rig::{Rig, config, pinned, prompt, text};

fn lengths(rig: &Rig) -> Vec<usize> {
    let mut lengths: Vec<_> = rig.cache.held().map(|(_, tokens, _)| tokens.len()).collect();
    lengths.sort_unstable();
    lengths
}

/// Slots of 64 tokens, with nothing beyond them but what a restore is staged in: blocks of two slots, and one for each.
fn tight(slots: u32) -> Rig {
    Rig::new(CacheConfig { slot_context: 64, pool_tokens: 64 * slots, ram_blocks: 0, ..config(slots) })
}

#[test]
fn alternating_prompts_on_one_slot_come_back() {
    let mut rig = Rig::new(config(1));
    let (a, b) = (text(1, 36), text(2, 42));
    let counts = [&a, &b, &a, &b].map(|text| rig.run(&prompt(text), &[]).counts());
    assert_eq!(counts, [(0, 36), (1, 41), (35, 1), (41, 1)]);
}

#[test]
fn more_prompts_than_slots_come_back_also_without_memory_of_their_own() {
    let texts = [text(1, 36), text(2, 42), text(3, 51)];
    for ram_blocks in [0, 1_000] {
        let mut rig = Rig::new(CacheConfig { ram_blocks, ..config(2) });
        let counts = texts.iter().cycle().take(9).map(|text| rig.run(&prompt(text), &[]).cache_n);
        assert_eq!(counts.collect::<Vec<_>>(), [0, 0, 1, 35, 41, 50, 35, 41, 50]);
    }
}

#[test]
fn a_slot_that_goes_on_to_another_prompt_loses_nothing() {
    let mut rig = Rig::new(config(1));
    let long = text(1, 77);
    let other = [&long[..26], &text(2, 37)[1..]].concat();
    rig.run(&prompt(&long), &[]);
    let done = rig.run(&prompt(&other), &[]);
    assert_eq!((done.cache_n, done.placement.evicted_tokens()), (26, 0));
    assert_eq!(rig.run(&prompt(&long), &[]).counts(), (76, 1));
}

#[test]
fn a_pinned_request_on_an_empty_slot_finds_what_is_held() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 36);
    rig.run(&pinned(&a, 1), &[]);
    rig.run(&pinned(&text(2, 42), 1), &[]);
    let done = rig.run(&pinned(&a, 0), &[]);
    assert_eq!((done.at(), done.placement.own), ((0, 35), 0));
    assert_eq!(done.placement.from.to_string(), "ram");
}

#[test]
fn a_slot_with_a_full_prefix_does_not_hide_a_longer_one() {
    let whole = text(1, 127);
    let mut rig = Rig::new(config(2));
    rig.run(&pinned(&whole, 1), &[]);
    let staged = rig.cache.restore(SlotId(0), Tenant(0), &whole[..36], u32::MAX).expect("idle");
    rig.memory.write(&whole[..36], &staged.blocks, 0);
    let now = rig.now();
    rig.cache.commit_restore(staged, now);
    let done = rig.run(&pinned(&whole, 0), &[]);
    assert_eq!((done.counts(), done.placement.own), ((126, 1), 36));
}

#[test]
fn pinned_requests_with_similarity_off_are_served() {
    let mut rig = Rig::new(CacheConfig { similarity: Ppm(0), ..config(1) });
    let (a, b) = (text(1, 36), text(2, 42));
    let counts = [&a, &b, &a].map(|text| rig.run(&pinned(text, 0), &[]).cache_n);
    assert_eq!(counts, [0, 1, 35]);
}

#[test]
fn taking_over_shares_and_leaves_what_is_there() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 100);
    rig.run(&pinned(&a, 0), &[]);
    let done = rig.run(&pinned(&a, 1), &[]);
    assert_eq!(done.cache_n, 99);
    let [first, second] = [0, 1].map(|slot| rig.cache.slot(SlotId(slot)).blocks.to_vec());
    assert_eq!(first[..3], second[..3], "full blocks exist once");
    assert_ne!(first[3], second[3], "the partial one was copied before the last token was written");
    assert_eq!(lengths(&rig), [100]);
}

#[test]
fn what_a_running_request_has_evaluated_is_found_by_others() {
    let mut rig = Rig::new(config(2));
    let system = text(1, 3 * BLOCK_TOKENS + 5);
    let [first, second] = [2, 3].map(|name| [&system, &text(name, 20)[1..]].concat());
    let running = rig.start(&prompt(&first)).expect("idle").slot;
    rig.evaluate(running, &first);
    rig.cache.publish(running);
    let done = rig.run(&prompt(&second), &[]);
    assert_eq!(done.cache_n, 3 * BLOCK_TOKENS, "whole blocks only: the last one is still being written");
    rig.verify();
}

#[test]
fn blocks_evaluated_twice_at_the_same_time_become_one() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 100);
    let slots = [0, 1].map(|slot| rig.start(&pinned(&a, slot)).expect("idle").slot);
    for slot in slots {
        rig.evaluate(slot, &a);
        let now = rig.now();
        rig.cache.release(slot, now);
        rig.verify();
    }
    let [first, second] = slots.map(|slot| rig.cache.slot(slot).blocks.to_vec());
    assert_eq!(first[..3], second[..3]);
    assert_eq!(rig.cache.held_blocks(), 4);
}

#[test]
fn a_longer_text_takes_the_place_of_its_beginning() {
    let mut rig = Rig::new(config(1));
    let a = text(1, 90);
    for len in [30, 60, 90] {
        rig.run(&prompt(&a[..len]), &[]);
        assert_eq!(lengths(&rig), [len]);
    }
    rig.run(&prompt(&a[..40]), &[]);
    assert_eq!(lengths(&rig), [90], "a beginning of what is there adds nothing");
}

#[test]
fn a_shared_beginning_is_held_once() {
    let mut rig = Rig::new(config(2));
    let system = text(1, 4 * BLOCK_TOKENS);
    for name in [2, 3] {
        rig.run(&prompt(&[&system, &text(name, 20)[1..]].concat()), &[]);
    }
    assert_eq!((lengths(&rig), rig.cache.held_blocks()), (vec![147, 147], 6));
}

#[test]
fn what_was_asked_for_longest_ago_is_given_up_from_its_end() {
    // Five blocks: the slot's two, its spare, and two for a restore.
    let mut rig = tight(1);
    let texts = [1, 2, 3].map(|name| text(name, 60));
    for text in &texts[..2] {
        rig.run(&prompt(text), &[]);
    }
    let placement = rig.run(&prompt(&texts[2]), &[]).placement;
    assert_eq!(placement.evicted[0].to_string(), "28 tokens of the prompt cache");
    let reused =
        |name: usize| rig.cache.plan(&prompt(&texts[name]), reprise_kv::Millis(0)).map(|plan| plan.reused);
    assert_eq!([0, 1, 2].map(reused), [Some(32), Some(59), Some(59)]);
}

#[test]
fn an_idle_slot_gives_way_and_is_told() {
    let mut rig = tight(2);
    // Eight blocks. Two idle slots show four of them, and three more are held.
    for name in 1..=4 {
        rig.run(&prompt(&text(name, 60)), &[]);
    }
    let shown: Vec<_> = rig.cache.slots().map(|(_, slot)| slot.len()).collect();
    let running = rig.start(&prompt(&text(5, 60))).expect("idle");
    assert!(running.evicted.iter().all(|eviction| eviction.owner == Owner::Ram), "{:?}", running.evicted);
    rig.evaluate(running.slot, &text(5, 60));
    assert_eq!(shown, [60, 60]);
    rig.verify();
}

#[test]
fn tenants_do_not_notice_each_other() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 100);
    let of = |tenant| Prompt { tenant: Tenant(tenant), ..prompt(&a) };
    assert_eq!(rig.run(&of(1), &[]).at(), (1, 0));
    assert_eq!(rig.run(&of(2), &[]).at(), (0, 0), "neither chosen for what it shows nor continued");
    assert_eq!(rig.run(&of(1), &[]).at(), (1, 99));
    assert_eq!(rig.run(&of(2), &[]).at(), (0, 99));
    assert_eq!(rig.run(&of(3), &[]).cache_n, 0);
}

#[test]
fn erasing_takes_back_what_nobody_else_uses() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 100);
    rig.run(&pinned(&a, 0), &[]);
    rig.cache.clear(SlotId(0));
    rig.verify();
    assert_eq!((lengths(&rig), rig.run(&pinned(&a, 0), &[]).cache_n), (vec![], 0));
    // As in llama-server, another request has put it into the prompt cache.
    rig.run(&pinned(&text(2, 40), 1), &[]);
    rig.cache.clear(SlotId(0));
    assert_eq!(rig.run(&pinned(&a, 0), &[]).cache_n, 99);
}

#[test]
fn what_was_moved_is_held_by_its_slot_alone() {
    let mut rig = Rig::new(config(1));
    let a = text(1, 200);
    rig.start(&prompt(&a)).expect("idle");
    rig.evaluate(SlotId(0), &a);
    let work = rig.cache.shift(SlotId(0), 40, 30);
    rig.memory.carry_out(&work);
    rig.evaluate(SlotId(0), &text(2, 60));
    let now = rig.now();
    rig.cache.release(SlotId(0), now);
    rig.verify();
    assert_eq!(lengths(&rig), [32], "the cells behind the shift saw what is not there any more");
    let shifted = rig.tokens(0).to_vec();
    assert_eq!(
        rig.run(&prompt(&shifted), &[]).cache_n,
        229,
        "llama-server goes on from them, and so does the slot"
    );
}

#[test]
fn in_a_unified_pool_published_slots_are_emptied() {
    let mut rig = Rig::new(CacheConfig { unified: true, pool_tokens: 256, ..config(4) });
    let (a, b) = (text(1, 36), text(2, 42));
    let done = [&a, &b, &a].map(|text| rig.run(&prompt(text), &[]).at());
    assert_eq!(done, [(3, 0), (2, 0), (1, 35)]);
    assert_eq!(rig.tokens(3), []);
}

#[test]
fn source_names() {
    assert_eq!(Source::Slot.to_string(), "slot");
}

#[test]
fn a_token_of_another_text_is_no_match() {
    let mut rig = Rig::new(config(1));
    let mut a = text(1, 100);
    rig.run(&prompt(&a), &[]);
    a[50] = TokenId(7);
    assert_eq!(rig.run(&prompt(&a), &[]).cache_n, 50);
}
