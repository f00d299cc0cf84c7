//! Restoring as a transaction.

use reprise_kv::{CacheConfig, Millis, RestoreError, SlotId, Staged, Tenant};

use crate::rig::{Rig, config, pinned, prompt, text};

fn stage(rig: &mut Rig, slot: u32, tokens: &[reprise_gguf::TokenId]) -> Staged {
    let staged = rig.cache.restore(SlotId(slot), Tenant(0), tokens, u32::MAX).expect("there is room");
    rig.memory.write(tokens, &staged.blocks, 0);
    rig.verify();
    staged
}

#[test]
fn a_committed_restore_is_reused() {
    let mut rig = Rig::new(config(2));
    let (a, b) = (text(1, 84), text(2, 60));
    rig.run(&pinned(&b, 0), &[]);
    let staged = stage(&mut rig, 0, &a);
    assert_eq!(rig.tokens(0), b, "untouched until it is committed");
    let now = rig.now();
    rig.cache.commit_restore(staged, now);
    rig.verify();
    assert_eq!(rig.tokens(0), a);
    assert_eq!(rig.run(&prompt(&a), &[]).at(), (0, 83));
}

#[test]
fn an_aborted_restore_leaves_the_slot_as_it_was() {
    let mut rig = Rig::new(config(1));
    let b = text(2, 60);
    rig.run(&prompt(&b), &[]);
    let used = rig.cache.slot(SlotId(0)).last_used;
    let staged = stage(&mut rig, 0, &text(1, 84));
    rig.cache.abort_restore(staged);
    rig.verify();
    assert_eq!((rig.tokens(0), rig.cache.slot(SlotId(0)).last_used), (&b[..], used));
    assert_eq!(rig.run(&prompt(&b), &[]).cache_n, 59);
}

#[test]
fn a_full_image_fits_beside_a_full_slot_without_memory_beyond_it() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 0, ..config(1) });
    let (a, b) = (text(1, 256), text(2, 256));
    rig.run(&prompt(&b), &[]);
    let staged = stage(&mut rig, 0, &a);
    rig.cache.commit_restore(staged, Millis(9));
    assert_eq!(rig.tokens(0), a);
}

#[test]
fn staging_evicts_only_what_it_needs() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 8, ..config(1) });
    for name in 1..=8 {
        rig.run(&prompt(&text(name, 250)), &[]);
    }
    rig.cache.publish_idle();
    let staged = stage(&mut rig, 0, &text(9, 256));
    let evicted: u32 = staged.evicted.iter().map(|eviction| eviction.tokens).sum();
    // Nine blocks of 17 are held; the slot's own eight stay until the restore is committed.
    assert!((1..=256).contains(&evicted), "{evicted}");
    assert_eq!(rig.tokens(0).len(), 250);
    rig.cache.commit_restore(staged, Millis(9));
    rig.verify();
}

#[test]
fn a_slot_is_busy_while_its_restore_is_staged() {
    let mut rig = Rig::new(config(1));
    let a = text(1, 10);
    let staged = stage(&mut rig, 0, &a);
    assert!(rig.start(&prompt(&a)).is_none());
    assert_eq!(
        rig.cache.restore(SlotId(0), Tenant(0), &a, u32::MAX).map(|staged| staged.slot),
        Err(RestoreError::Busy(SlotId(0)))
    );
    let now = rig.now();
    rig.cache.release(SlotId(0), now);
    assert!(rig.cache.slot(SlotId(0)).busy, "a release does not end a restore");
    rig.cache.abort_restore(staged);
    assert!(rig.start(&prompt(&a)).is_some());
}

#[test]
fn staged_restores_take_no_cells_from_running_slots() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 0, ..config(3) });
    for slot in [0, 1] {
        rig.run(&pinned(&text(slot + 1, 256), slot), &[]);
    }
    let staged = stage(&mut rig, 0, &text(4, 256));
    let second = rig.cache.restore(SlotId(1), Tenant(0), &text(5, 256), u32::MAX).map(|staged| staged.slot);
    assert_eq!(second, Err(RestoreError::Pool { tokens: 256 }));
    rig.run(&pinned(&text(3, 256), 2), &[]);
    rig.cache.commit_restore(staged, Millis(9));
    rig.verify();
}

#[test]
fn a_restored_slot_is_not_the_first_to_be_overwritten() {
    let mut rig = Rig::new(config(2));
    let staged = stage(&mut rig, 1, &text(1, 36));
    let now = rig.now();
    rig.cache.commit_restore(staged, now);
    assert_eq!(rig.run(&prompt(&text(2, 42)), &[]).slot, 0);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_changes() {
    let mut rig = Rig::new(CacheConfig { unified: true, pool_tokens: 256, ram_blocks: 0, ..config(2) });
    let error = rig.cache.restore(SlotId(0), Tenant(0), &text(1, 257), u32::MAX).expect_err("too long");
    assert_eq!(error, RestoreError::Context { tokens: 257, context: 256 });
    rig.start(&pinned(&text(2, 100), 1)).expect("idle");
    rig.evaluate(SlotId(1), &text(2, 100));
    let error =
        rig.cache.restore(SlotId(0), Tenant(0), &text(1, 157), u32::MAX).expect_err("the pool is too full");
    assert_eq!(error, RestoreError::Pool { tokens: 157 });
    rig.verify();
    let staged = stage(&mut rig, 0, &text(1, 156));
    // What is staged is spoken for.
    assert!(rig.try_evaluate(SlotId(1), &text(3, 1)).is_err());
    rig.cache.commit_restore(staged, Millis(9));
    rig.verify();
}

#[test]
fn a_restore_purges_idle_slots_of_a_unified_pool() {
    let unified = CacheConfig { unified: true, pool_tokens: 256, cache_idle_slots: false, ..config(3) };
    let mut rig = Rig::new(unified);
    let b = text(2, 100);
    rig.run(&pinned(&b, 0), &[]);
    rig.run(&pinned(&text(3, 100), 1), &[]);
    let staged = stage(&mut rig, 2, &text(1, 100));
    assert_eq!(staged.purged, [SlotId(0)]);
    rig.cache.commit_restore(staged, Millis(9));
    rig.verify();
    assert_eq!(rig.run(&pinned(&b, 0), &[]).cache_n, 99, "what it showed is held");
}

#[test]
fn an_empty_image_empties_the_slot() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&text(1, 40)), &[]);
    let staged = stage(&mut rig, 0, &[]);
    rig.cache.commit_restore(staged, Millis(9));
    assert_eq!(rig.tokens(0), []);
    rig.verify();
}
