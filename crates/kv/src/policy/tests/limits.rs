//! Memory, order and holes.

use proptest::prelude::*;

use super::{Texts, behind, path};
use crate::policy::experts::Expert;
use crate::policy::{NodeKey, Policy};

const CAPACITY: u32 = 12;

#[test]
fn memory_is_bounded() {
    let mut policy = Policy::new(CAPACITY);
    let system = path(1, 2);
    for text in 2..5000 {
        let prompt = behind(&system, text, text % 30);
        policy.request(&prompt);
        policy.grow(&behind(&prompt, text + 10_000, text % 7), prompt.len());
        let (known, made) = policy.history.len();
        assert!(known <= 5 * CAPACITY as usize, "{known} records");
        assert!(made <= 6 * CAPACITY as usize, "{made} records made");
    }
    let waiting: Vec<_> = (2..100).map(|text| behind(&system, text, 5)).collect();
    policy.expect(waiting.iter().map(Vec::as_slice));
    assert_eq!(policy.expected.len(), CAPACITY as usize);
}

#[test]
fn a_ghost_is_remembered_for_four_times_the_capacity() {
    let mut policy = Policy::new(CAPACITY);
    (0..15).for_each(|text| policy.request(&path(text, 4)));
    assert_eq!(policy.uses(path(0, 4)[3]), 1);
    policy.request(&path(15, 4));
    assert_eq!(policy.uses(path(0, 4)[3]), 0);
}

#[test]
fn a_cache_without_memory_has_nothing_to_give_up() {
    let mut policy = Policy::new(0);
    policy.request(&path(1, 3));
    policy.grow(&path(1, 4), 3);
    assert_eq!(policy.victim(std::iter::empty()), None);
    assert_eq!(policy.history.len(), (0, 0));
}

#[test]
fn the_same_requests_are_answered_the_same() {
    let run = || {
        let mut cache = Texts::new(40);
        let found: Vec<_> = (0..600).map(|at| cache.ask(1 + at * at % 17, 4)).collect();
        (found, cache.held)
    };
    assert_eq!(run(), run());
}

/// A prompt in a small tree of texts, and how much it grows.
fn requests() -> impl Strategy<Value = Vec<(Vec<u8>, usize)>> {
    prop::collection::vec((prop::collection::vec(0..3_u8, 1..16), 0..4_usize), 1..80)
}

/// Keys that depend on all before, as the tree's do.
fn keys(text: &[u8]) -> Vec<NodeKey> {
    let fold = |at: &mut u64, block: &u8| {
        *at = *at * 4 + u64::from(*block) + 1;
        Some(NodeKey(*at))
    };
    text.iter().scan(0, fold).collect()
}

proptest! {
    #[test]
    fn shadow_caches_have_no_holes(requests in requests()) {
        let mut policy = Policy::new(CAPACITY);
        for (text, generated) in requests {
            policy.request(&keys(&text));
            prop_assert_eq!(check(&policy), Ok(()));
            let grown = [&text[..], &vec![1; generated]].concat();
            policy.grow(&keys(&grown), text.len());
            prop_assert_eq!(check(&policy), Ok(()));
        }
    }

    #[test]
    fn the_order_of_leaves_does_not_matter(requests in requests(), shuffled in Just((0..8_u64).collect::<Vec<_>>()).prop_shuffle()) {
        let mut policy = Policy::new(CAPACITY);
        let mut ends = Vec::new();
        for (text, _) in requests {
            let keys = keys(&text);
            policy.request(&keys);
            ends.push((keys[keys.len() - 1], keys.len() as u32));
        }
        let victim = policy.victim(ends.iter().copied().take(8));
        let shuffled = shuffled.iter().filter_map(|at| ends.get(*at as usize).copied());
        prop_assert_eq!(policy.victim(shuffled), victim);
    }
}

fn check(policy: &Policy) -> Result<(), String> {
    for expert in Expert::ALL {
        let shadow = &policy.shadows[expert as usize];
        shadow.check(&policy.history)?;
    }
    policy.history.check()
}
