//! The RAM tier: what is saved, found, shared and evicted.

use reprise_gguf::TokenId;
use reprise_kv::{BLOCK_TOKENS, CacheConfig, Owner, Ppm, Prompt, SlotId, Source};

use crate::rig::{Rig, config, pinned, prompt, text};

fn lengths(rig: &Rig) -> Vec<usize> {
    rig.cache.ram_entries().map(|(_, tokens, _)| tokens.len()).collect()
}

#[test]
fn alternating_prompts_on_one_slot_come_back_from_ram() {
    let mut rig = Rig::new(config(1));
    let (a, b) = (text(1, 36), text(2, 42));
    let counts = [&a, &b, &a, &b].map(|text| rig.run(&prompt(text), &[]).counts());
    assert_eq!(counts, [(0, 36), (1, 41), (35, 1), (41, 1)]);
}

#[test]
fn three_cyclic_prompts_over_two_slots() {
    let texts = [text(1, 36), text(2, 42), text(3, 51)];
    let run = |ram_blocks| {
        let mut rig = Rig::new(CacheConfig { ram_blocks, ..config(2) });
        texts.iter().cycle().take(9).map(|text| rig.run(&prompt(text), &[]).cache_n).collect::<Vec<_>>()
    };
    assert_eq!(run(0), [0, 0, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(run(1_000), [0, 0, 1, 35, 41, 50, 35, 41, 50]);
}

#[test]
fn a_long_state_goes_to_ram_when_most_of_its_slot_is_lost() {
    // 77 tokens held, a prompt of 62 shares 26 of them: f_sim .42, f_keep .34.
    let mut rig = Rig::new(config(1));
    let long = text(1, 77);
    let other = [&long[..26], &text(2, 37)[1..]].concat();
    rig.run(&prompt(&long), &[]);
    let done = rig.run(&prompt(&other), &[]);
    assert_eq!((done.cache_n, done.placement.saved), (26, 77));
    assert_eq!(rig.run(&prompt(&long), &[]).counts(), (76, 1));
}

#[test]
fn a_slot_that_keeps_half_is_not_saved() {
    let mut rig = Rig::new(CacheConfig { cache_idle_slots: false, ..config(1) });
    let long = text(1, 60);
    rig.run(&prompt(&long), &[]);
    let placement = rig.run(&prompt(&[&long[..30], &[TokenId(7)]].concat()), &[]).placement;
    assert_eq!((placement.saved, placement.evicted_tokens()), (0, 30));
    rig.run(&prompt(&long), &[]);
    let placement = rig.run(&prompt(&[&long[..29], &[TokenId(8)]].concat()), &[]).placement;
    assert_eq!((placement.saved, placement.evicted_tokens()), (60, 0));
}

#[test]
fn a_pinned_request_on_an_empty_slot_finds_the_ram_tier() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 36);
    rig.run(&pinned(&a, 1), &[]);
    rig.run(&pinned(&text(2, 42), 1), &[]);
    let done = rig.run(&pinned(&a, 0), &[]);
    assert_eq!(done.at(), (0, 35));
    assert_eq!(done.placement.from.to_string(), "ram");
}

#[test]
fn a_slot_with_a_full_prefix_does_not_hide_a_longer_entry() {
    let mut rig = Rig::new(config(2));
    let whole = text(1, 127);
    rig.run(&pinned(&whole, 1), &[]);
    rig.run(&pinned(&whole[..36], 0), &[]);
    let mut restored = Rig::new(config(2));
    restored.run(&pinned(&whole, 1), &[]);
    // The slot holds exactly a prefix, f_keep is 1, and still the entry wins.
    let work = restored.cache.restore(SlotId(0), &whole[..36]).expect("idle");
    restored.memory.write(&whole[..36], &work.blocks, 0);
    restored.cache.commit_restore(work, reprise_kv::Millis(99));
    restored.cache.publish_idle();
    assert_eq!(restored.run(&pinned(&whole, 0), &[]).counts(), (126, 1));
    assert_eq!(rig.run(&pinned(&whole, 0), &[]).counts(), (126, 1));
}

#[test]
fn the_ram_tier_serves_pinned_requests_with_similarity_off() {
    let mut rig = Rig::new(CacheConfig { similarity: Ppm(0), ..config(1) });
    let (a, b) = (text(1, 36), text(2, 42));
    let counts = [&a, &b, &a].map(|text| rig.run(&pinned(text, 0), &[]).cache_n);
    assert_eq!(counts, [0, 1, 35]);
}

#[test]
fn other_tasks_leave_the_ram_tier_alone() {
    let mut rig = Rig::new(config(1));
    let (a, b) = (text(1, 36), text(2, 42));
    rig.run(&prompt(&a), &[]);
    rig.run(&prompt(&b), &[]);
    let infill = Prompt { ram: false, ..prompt(&a) };
    let done = rig.run(&infill, &[]);
    assert_eq!((done.cache_n, done.placement.saved, done.placement.evicted_tokens()), (1, 0, 41));
}

#[test]
fn loading_shares_and_leaves_the_entry() {
    let mut rig = Rig::new(config(2));
    let a = text(1, 100);
    rig.run(&pinned(&a, 0), &[]);
    rig.cache.publish_idle();
    let done = rig.run(&pinned(&a, 1), &[]);
    assert_eq!(done.cache_n, 99);
    let [first, second] = [0, 1].map(|slot| rig.cache.slot(SlotId(slot)).blocks.to_vec());
    assert_eq!(first[..3], second[..3], "full blocks exist once");
    assert_ne!(first[3], second[3], "the partial one was copied before the last token was written");
    assert_eq!(lengths(&rig), [100]);
}

#[test]
fn an_entry_that_is_a_prefix_is_obsolete() {
    let mut rig = Rig::new(config(1));
    let a = text(1, 90);
    for len in [30, 60, 90] {
        rig.run(&prompt(&a[..len]), &[]);
        rig.cache.publish_idle();
        assert_eq!(lengths(&rig), [len]);
    }
    rig.run(&prompt(&a[..40]), &[]);
    rig.cache.publish_idle();
    assert_eq!(lengths(&rig), [90], "a prefix of what is there is not saved");
}

#[test]
fn the_oldest_entry_makes_room_and_loading_renews() {
    // Three entries of two blocks each fit.
    let mut rig = Rig::new(CacheConfig { ram_blocks: 6, ..config(1) });
    let texts = [1, 2, 3, 4].map(|name| text(name, 40));
    for text in &texts[..3] {
        rig.run(&prompt(text), &[]);
    }
    rig.cache.publish_idle();
    assert_eq!(rig.run(&prompt(&texts[0]), &[]).cache_n, 39, "loaded, and the newest from now on");
    let placement = rig.run(&prompt(&texts[3]), &[]).placement;
    assert_eq!(placement.evicted, [], "the slot's content is in the tier already");
    rig.cache.publish_idle();
    let counts = [&texts[0], &texts[2], &texts[1]]
        .map(|text| rig.cache.plan(&prompt(text), reprise_kv::Millis(0)).map(|placement| placement.reused));
    assert_eq!(counts, [Some(39), Some(39), Some(1)], "the second text was the oldest");
}

#[test]
fn what_the_tier_gives_up_is_reported() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 2, ..config(1) });
    rig.run(&prompt(&text(1, 40)), &[]);
    rig.run(&prompt(&text(2, 50)), &[]);
    let placement = rig.run(&prompt(&text(3, 40)), &[]).placement;
    assert_eq!(placement.saved, 50);
    assert!(
        matches!(placement.evicted[..], [evicted] if evicted.tokens == 40 && evicted.to_string() == "40 tokens of the RAM cache")
    );
    assert!(matches!(placement.evicted[0].owner, Owner::Ram(_)));
}

#[test]
fn the_loaded_entry_outlives_the_save_that_comes_with_it() {
    // The tier has room for one entry only: the one wanted. Saving the slot must not cost it.
    let mut rig = Rig::new(CacheConfig { ram_blocks: 2, ..config(1) });
    let (a, b) = (text(1, 40), text(2, 50));
    rig.run(&prompt(&a), &[]);
    rig.run(&prompt(&b), &[]);
    let counts = [&a, &b, &a, &b].map(|text| rig.run(&prompt(text), &[]).cache_n);
    assert_eq!(counts, [39, 49, 39, 49]);
}

#[test]
fn the_loaded_entry_is_the_last_to_make_room() {
    // Two entries of two blocks, the older one wanted in part; the slot's two blocks take the place of the other.
    let mut rig = Rig::new(CacheConfig { ram_blocks: 4, cache_idle_slots: false, ..config(1) });
    let [a, b, c] = [1, 2, 3].map(|name| text(name, 40));
    for text in [&a, &b, &c] {
        rig.run(&prompt(text), &[]);
    }
    let second = rig.cache.ram_entries().nth(1).map(|(id, ..)| Owner::Ram(id));
    let done = rig.run(&prompt(&a[..30]), &[]);
    assert_eq!((done.cache_n, done.placement.saved), (29, 40));
    assert_eq!(done.placement.evicted.iter().map(|eviction| eviction.owner).next(), second);
    let held: Vec<_> = rig.cache.ram_entries().map(|(_, tokens, _)| tokens.to_vec()).collect();
    assert_eq!(held, [a, c]);
}

#[test]
fn a_slot_is_saved_whatever_it_keeps_when_an_entry_replaces_it() {
    let mut rig = Rig::new(CacheConfig { cache_idle_slots: false, ..config(2) });
    let a = text(1, 100);
    let b = [&a[..60], &text(2, 30)[1..]].concat();
    rig.run(&pinned(&a, 0), &[]);
    rig.run(&pinned(&text(3, 40), 0), &[]);
    rig.run(&pinned(&b, 1), &[]);
    let done = rig.run(&pinned(&a, 1), &[]);
    assert_eq!((done.cache_n, done.placement.saved, done.placement.evicted_tokens()), (99, 89, 0));
    assert_eq!(rig.run(&pinned(&b, 1), &[]).cache_n, 88);
}

#[test]
fn what_exceeds_the_tier_is_not_saved() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 2, ..config(1) });
    rig.run(&prompt(&text(1, 40)), &[]);
    rig.run(&prompt(&text(2, 65)), &[]);
    let placement = rig.run(&prompt(&text(3, 40)), &[]).placement;
    assert_eq!((placement.saved, placement.evicted_tokens()), (0, 64));
    assert_eq!(lengths(&rig), [40], "the others are not disturbed");
}

#[test]
fn shared_blocks_count_once_in_the_tier() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 6, ..config(2) });
    let system = text(1, 4 * BLOCK_TOKENS);
    let chats = [2, 3].map(|name| [&system, &text(name, 20)[1..]].concat());
    for chat in &chats {
        rig.run(&prompt(chat), &[]);
        rig.cache.publish_idle();
    }
    assert_eq!(lengths(&rig), [147, 147]);
    assert_eq!(rig.cache.ram_blocks(), 6);
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
fn a_published_slot_that_does_not_fit_the_tier_is_not_emptied() {
    let mut rig = Rig::new(CacheConfig { unified: true, pool_tokens: 256, ram_blocks: 1, ..config(2) });
    let a = text(1, 36);
    rig.run(&prompt(&a), &[]);
    rig.run(&prompt(&text(2, 30)), &[]);
    assert_eq!(rig.tokens(1), a);
    assert_eq!(rig.run(&prompt(&a), &[]).at(), (1, 35));
}

#[test]
fn source_names() {
    assert_eq!(Source::Slot.to_string(), "slot");
}
