//! Reuse of chunks at other positions (`n_cache_reuse`).

use reprise_gguf::TokenId;
use reprise_kv::{CacheConfig, ChunkMove, Prompt, Source};

use crate::rig::{Rig, config, pinned, prompt, runs, text};

const CACHED: &[(u32, usize)] = &[(1, 1), (10, 5), (11, 5), (12, 12), (13, 20), (14, 9)];
const ASKED: &[(u32, usize)] = &[(1, 1), (10, 5), (12, 12), (14, 9), (15, 4)];

#[test]
fn chunks_behind_deletions_are_moved() {
    let mut rig = Rig::new(config(1));
    let (cached, asked) = (runs(CACHED), runs(ASKED));
    rig.run(&prompt(&cached), &[]);
    let done = rig.run(&Prompt { reuse_chunk: 8, ..prompt(&asked) }, &[]);
    assert_eq!(done.counts(), (27, 4));
    let chunks = [ChunkMove { from: 11, to: 6, count: 12 }, ChunkMove { from: 43, to: 18, count: 9 }];
    assert_eq!(done.placement.chunks, chunks);
    assert_eq!(rig.tokens(0), asked);
}

#[test]
fn zero_turns_chunk_reuse_off() {
    let mut rig = Rig::new(config(1));
    let (cached, asked) = (runs(CACHED), runs(ASKED));
    rig.run(&prompt(&cached), &[]);
    assert_eq!(rig.run(&prompt(&asked), &[]).counts(), (6, 25));
}

#[test]
fn chunks_need_their_length_and_cache_prompt() {
    let (cached, asked) = (runs(CACHED), runs(ASKED));
    for (request, expected) in [
        (Prompt { reuse_chunk: 12, ..prompt(&asked) }, 18),
        (Prompt { reuse_chunk: 13, ..prompt(&asked) }, 6),
        (Prompt { reuse_chunk: 8, cache_prompt: false, ..prompt(&asked) }, 0),
    ] {
        let mut rig = Rig::new(config(1));
        rig.run(&prompt(&cached), &[]);
        assert_eq!(rig.run(&request, &[]).cache_n, expected);
    }
}

#[test]
fn insertions_are_not_bridged() {
    let mut rig = Rig::new(config(1));
    rig.run(&prompt(&runs(&[(1, 1), (10, 5), (12, 20)])), &[]);
    let asked = runs(&[(1, 1), (10, 5), (11, 5), (12, 20)]);
    assert_eq!(rig.run(&Prompt { reuse_chunk: 4, ..prompt(&asked) }, &[]).cache_n, 6);
}

#[test]
fn the_last_token_is_evaluated_again_when_a_chunk_ends_the_prompt() {
    let cached = runs(&[(1, 1), (10, 5), (11, 5), (12, 12)]);
    for (tail, expected, chunks) in [(12, 17, 1), (1, 6, 0)] {
        let mut rig = Rig::new(config(1));
        rig.run(&prompt(&cached), &[]);
        let asked = runs(&[(1, 1), (10, 5), (12, tail)]);
        let done = rig.run(&Prompt { reuse_chunk: 1, ..prompt(&asked) }, &[]);
        assert_eq!(done.counts(), (expected, 1));
        assert_eq!(done.placement.chunks.len(), chunks);
    }
}

#[test]
fn long_moves_cross_blocks() {
    let cached = text(1, 200);
    // Deletions of every alignment.
    for (keep, skip) in [(0, 1), (31, 1), (32, 1), (33, 31), (1, 32), (64, 64), (40, 77)] {
        let mut rig = Rig::new(config(1));
        rig.run(&prompt(&cached), &[]);
        let asked = [&cached[..keep], &cached[keep + skip..], &[TokenId(7)]].concat();
        let done = rig.run(&Prompt { reuse_chunk: 16, ..prompt(&asked) }, &[]);
        assert_eq!(done.counts(), (200 - skip as u32, 1));
    }
}

#[test]
fn chunks_are_found_in_what_is_held_and_it_stays() {
    let mut rig = Rig::new(config(2));
    let (cached, asked) = (runs(CACHED), runs(ASKED));
    rig.run(&pinned(&cached, 1), &[]);
    rig.run(&pinned(&text(2, 40), 0), &[]);
    let done = rig.run(&Prompt { reuse_chunk: 8, ..pinned(&asked, 0) }, &[]);
    assert_eq!(done.counts(), (27, 4));
    assert!(matches!(done.placement.from, Source::Ram));
    assert!(rig.cache.held().any(|(_, tokens, _)| tokens == cached));
}

#[test]
fn moves_work_in_a_full_slot_without_memory_beyond_it() {
    let mut rig = Rig::new(CacheConfig { ram_blocks: 0, ..config(1) });
    let cached = text(1, 256);
    rig.run(&prompt(&cached), &[]);
    let asked = [&cached[..50], &cached[60..]].concat();
    let done = rig.run(&Prompt { reuse_chunk: 16, ..prompt(&asked) }, &[]);
    assert_eq!(done.counts(), (245, 1));
}
