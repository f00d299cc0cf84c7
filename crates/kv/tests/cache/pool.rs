//! The pool's limits, purging, and slots that share blocks.

use reprise_gguf::TokenId;
use reprise_kv::{CacheConfig, PoolFull, Prompt, SlotId};

use crate::rig::{Rig, config, pinned, prompt, text};

fn unified(pool_tokens: u32, ram_blocks: u32) -> Rig {
    let (unified, cache_idle_slots) = (true, false);
    Rig::new(CacheConfig { unified, pool_tokens, ram_blocks, cache_idle_slots, ..config(3) })
}

#[test]
fn a_slot_holds_its_context_and_not_more() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&text(1, 250)), &[]);
    let full = PoolFull::Slot { slot: SlotId(0), wanted: 7, room: 6 };
    assert_eq!(rig.try_evaluate(SlotId(0), &text(2, 7)), Err(full));
    assert_eq!(full.to_string(), "slot 0 has room for 6 of 7 tokens");
    rig.evaluate(SlotId(0), &text(2, 6));
    rig.verify();
}

#[test]
fn a_unified_pool_counts_tokens_exactly() {
    let mut rig = unified(100, 0);
    rig.run(&pinned(&text(1, 33), 0), &[]);
    rig.run(&pinned(&text(2, 33), 1), &[]);
    rig.start(&pinned(&text(3, 1), 2)).expect("idle");
    assert_eq!(rig.try_evaluate(SlotId(2), &text(3, 35)), Err(PoolFull::Pool { wanted: 35, room: 34 }));
    rig.evaluate(SlotId(2), &text(3, 34));
    assert_eq!(rig.cache.used_tokens(), 100);
    rig.verify();
}

#[test]
fn the_lowest_idle_slot_is_purged_first_and_saved() {
    let mut rig = unified(120, 100);
    let a = text(1, 40);
    rig.run(&pinned(&a, 0), &[]);
    rig.run(&pinned(&text(2, 40), 1), &[]);
    rig.start(&pinned(&text(3, 80), 2)).expect("idle");
    assert!(rig.try_evaluate(SlotId(2), &text(3, 80)).is_err());
    assert_eq!(rig.cache.purge_idle(), Some((SlotId(0), 40)));
    rig.evaluate(SlotId(2), &text(3, 80));
    assert_eq!(rig.cache.purge_idle(), Some((SlotId(1), 40)));
    assert_eq!(rig.cache.purge_idle(), None, "slot 2 is busy");
    rig.verify();
    let now = rig.now();
    rig.cache.release(SlotId(2), now);
    assert_eq!(rig.run(&pinned(&a, 0), &[]).cache_n, 39, "what the purged slot showed is held");
}

#[test]
fn only_a_unified_pool_purges() {
    let mut rig = Rig::new(config(2));
    rig.run(&prompt(&text(1, 40)), &[]);
    assert_eq!(rig.cache.purge_idle(), None);
}

#[test]
fn loading_an_entry_purges_idle_slots_for_it() {
    let mut rig = unified(100, 100);
    let (a, b) = (text(1, 60), text(2, 60));
    rig.run(&pinned(&a, 0), &[]);
    rig.cache.purge_idle();
    rig.run(&pinned(&b, 1), &[]);
    let done = rig.run(&pinned(&a, 2), &[]);
    assert_eq!((done.cache_n, done.placement.purged), (59, vec![SlotId(1)]));
    assert_eq!(rig.run(&pinned(&b, 1), &[]).cache_n, 59);
}

#[test]
fn an_entry_that_does_not_fit_beside_busy_slots_is_loaded_in_part() {
    let mut rig = unified(100, 100);
    let (a, b) = (text(1, 60), text(2, 70));
    rig.run(&pinned(&a, 0), &[]);
    rig.cache.purge_idle();
    let busy = Prompt { cache_prompt: false, ..pinned(&b, 1) };
    rig.start(&busy).expect("idle");
    rig.evaluate(SlotId(1), &b);
    let placement = rig.start(&pinned(&a, 2)).expect("idle");
    assert_eq!(placement.reused, 30);
    rig.verify();
}

#[test]
fn children_share_the_prompt_and_part_on_their_own() {
    let mut rig = unified(100, 0);
    let a = text(1, 70);
    rig.start(&pinned(&a, 1)).expect("idle");
    let children = rig.cache.plan_children(SlotId(1), 2).expect("two are idle");
    assert_eq!(children, [SlotId(0), SlotId(2)]);
    children.iter().for_each(|child| assert_eq!(rig.cache.claim(*child), []));
    rig.evaluate(SlotId(1), &a);
    children.iter().for_each(|child| rig.cache.fork(SlotId(1), *child));
    assert_eq!(rig.cache.used_tokens(), 70, "shared cells are in use once");
    rig.verify();
    for (slot, token) in (0..3).zip(7..) {
        rig.evaluate(SlotId(slot), &[TokenId(token)]);
        rig.verify();
    }
    // Three times 7 tokens in the partial block.
    assert_eq!(rig.cache.used_tokens(), 64 + 3 * 7);
    let now = rig.now();
    for child in children {
        rig.cache.release(child, now);
        assert_eq!(rig.cache.clear(child), 71);
    }
    rig.verify();
    assert_eq!(rig.cache.used_tokens(), 71);
}

#[test]
fn children_need_enough_idle_slots() {
    let mut rig = Rig::new(config(3));
    rig.start(&pinned(&text(1, 9), 0)).expect("idle");
    assert_eq!(rig.cache.plan_children(SlotId(1), 1), Some(vec![SlotId(2)]));
    assert_eq!(rig.cache.plan_children(SlotId(1), 2), None);
}

#[test]
fn a_claimed_slot_loses_nothing() {
    let mut rig = Rig::new(CacheConfig { cache_idle_slots: false, ..config(2) });
    let a = text(1, 50);
    rig.run(&pinned(&a, 0), &[]);
    assert_eq!(rig.cache.claim(SlotId(0)), []);
    assert_eq!(rig.run(&pinned(&a, 1), &[]).cache_n, 49);
}

#[test]
fn a_shift_of_shared_blocks_in_a_full_pool_purges_or_drops_more() {
    for (idle_sibling, expected) in [(true, 70 - 10), (false, 32 + 1)] {
        let mut rig = unified(110, 0);
        let a = text(1, 70);
        rig.start(&pinned(&a, 1)).expect("idle");
        rig.cache.claim(SlotId(0));
        rig.evaluate(SlotId(1), &a);
        rig.cache.fork(SlotId(1), SlotId(0));
        // 70 shared cells, 39 more: one is left.
        rig.start(&pinned(&text(2, 39), 2)).expect("idle");
        rig.evaluate(SlotId(2), &text(2, 39));
        if idle_sibling {
            let now = rig.now();
            rig.cache.release(SlotId(0), now);
        }
        let work = rig.cache.shift(SlotId(1), 32, 10);
        rig.memory.carry_out(&work);
        rig.verify();
        assert_eq!(rig.tokens(1).len(), expected);
    }
}

#[test]
fn truncating_and_erasing_report_what_was_dropped() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&text(1, 85)), &[]);
    assert_eq!(rig.cache.truncate(SlotId(0), 100), 0);
    assert_eq!(rig.cache.truncate(SlotId(0), 80), 5);
    assert_eq!(rig.cache.clear(SlotId(0)), 80);
    assert_eq!(rig.cache.clear(SlotId(0)), 0);
    rig.verify();
}

#[test]
fn an_unlimited_ram_tier_costs_no_memory_up_front() {
    let cache = reprise_kv::Cache::new(CacheConfig { ram_blocks: u32::MAX, ..config(2) });
    assert_eq!(cache.capacity(), u32::MAX);
}
