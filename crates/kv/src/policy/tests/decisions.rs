//! What goes.

use super::{Texts, behind, key, path};
use crate::policy::experts::{Expert, Time};
use crate::policy::tournament::Tournament;
use crate::policy::{NodeKey, Policy};

/// The end of each path as a leaf.
fn leaves<'a>(paths: &'a [&[NodeKey]]) -> impl Iterator<Item = (NodeKey, u32)> + 'a {
    paths.iter().map(|path| (path[path.len() - 1], path.len() as u32))
}

#[test]
fn a_short_history_is_treated_by_lru() {
    let (a, b, c) = (path(1, 3), path(2, 3), path(3, 3));
    let mut policy = Policy::new(9);
    for prompt in [&a, &b, &c, &a] {
        policy.request(prompt);
    }
    assert_eq!(policy.victim(leaves(&[&a, &b, &c])), Some(key(2, 3)));
    assert_eq!(policy.victim(leaves(&[&a, &c])), Some(key(3, 3)));
    assert_eq!(policy.victim(leaves(&[])), None);
}

#[test]
fn of_one_requests_blocks_the_deepest_goes() {
    let mut policy = Policy::new(9);
    let prompt = path(1, 3);
    policy.request(&prompt);
    let grown = [prompt.clone(), path(2, 2)].concat();
    policy.grow(&grown, 3);
    assert_eq!(policy.victim([(key(1, 2), 2), (key(2, 2), 5), (key(2, 1), 4)].into_iter()), Some(key(2, 2)));
}

#[test]
fn an_answer_is_as_recent_as_its_prompt() {
    let (a, b) = (path(1, 3), path(2, 3));
    let mut policy = Policy::new(9);
    policy.request(&a);
    policy.request(&b);
    let grown = [&a[..], &path(3, 1)].concat();
    policy.grow(&grown, 3);
    assert_eq!(policy.victim(leaves(&[&b, &grown])), Some(key(3, 1)));
}

#[test]
fn an_unknown_block_goes_before_all_others() {
    let mut policy = Policy::new(9);
    policy.request(&path(1, 3));
    assert_eq!(policy.victim([(key(1, 3), 3), (key(9, 1), 1)].into_iter()), Some(key(9, 1)));
}

#[test]
fn what_is_expected_stays_and_of_it_what_is_needed_first() {
    let (a, b, c) = (path(1, 3), path(2, 3), path(3, 3));
    let mut policy = Policy::new(9);
    for prompt in [&a, &b, &c] {
        policy.request(prompt);
    }
    policy.expect([&a[..], &b[..]].into_iter());
    assert_eq!(policy.victim(leaves(&[&a, &b, &c])), Some(key(3, 3)), "the newest, but nobody waits for it");
    assert_eq!(policy.victim(leaves(&[&a, &b])), Some(key(2, 3)), "the second in the queue");
    policy.expect(std::iter::empty());
    assert_eq!(policy.victim(leaves(&[&a, &b, &c])), Some(key(1, 3)), "nobody waits any more");
}

#[test]
fn a_cycle_that_does_not_fit_is_learnt() {
    let mut cache = Texts::new(40);
    let mut found = 0;
    for round in 0..20 {
        found = (1..=11).map(|text| cache.ask(text, 4)).sum();
        if round < 2 {
            assert_eq!(found, 0, "LRU finds nothing");
        }
    }
    assert_eq!(found, 40, "of 44 blocks, all that can be found");
}

#[test]
fn a_cycles_loss_is_spread_over_its_prompts() {
    let mut cache = Texts::new(80);
    let worst = |cache: &mut Texts| (1..=11).map(|text| cache.ask(text, 8)).min();
    let last = (0..40).map(|_| worst(&mut cache)).last().flatten();
    assert!(last >= Some(4), "{last:?} of 8 blocks found of the prompt that fares worst");
}

#[test]
fn one_off_prompts_do_not_drive_out_what_is_asked_for_again() {
    let mut cache = Texts::new(40);
    let (mut found, mut next) = (0, 100);
    for round in 0..60 {
        for text in 1..=8 {
            let blocks = cache.ask(text, 4);
            found += if round < 30 { 0 } else { blocks };
            cache.ask(next, 4);
            next += 1;
        }
    }
    assert!(found >= 30 * 8 * 4 * 95 / 100, "{found} of {} blocks", 30 * 8 * 4);
}

#[test]
fn lru_is_followed_where_it_is_best() {
    let mut cache = Texts::new(16);
    let mut last = 0;
    for text in 0..200 {
        // Each text is asked for three times at short notice and then never again.
        for asked in [text, text.max(1) - 1, text] {
            last = cache.ask(1 + asked, 4);
        }
    }
    assert_eq!(last, 4);
    assert_eq!(cache.policy.tournament.leader(), Expert::Lru);
}

#[test]
fn the_lead_takes_a_margin_and_is_lost_without_one() {
    let (mut tournament, mut time) = (Tournament::new(10), Time::new(10));
    let mut rounds = |count, found| {
        for _ in 0..count {
            time.request(10);
            tournament.round(found, &time);
        }
        tournament.leader()
    };
    assert_eq!(rounds(15, [0, 10, 0]), Expert::Lru, "too early");
    assert_eq!(rounds(1, [0, 10, 0]), Expert::NextUse);
    assert_eq!(rounds(400, [100, 104, 0]), Expert::NextUse, "still the best");
    assert_eq!(rounds(400, [104, 100, 0]), Expert::Lru, "no better than LRU any more");
    assert_eq!(rounds(400, [100, 104, 0]), Expert::Lru, "better, but not by a sixteenth");
    assert_eq!(rounds(400, [100, 107, 0]), Expert::NextUse);
    assert_eq!(rounds(400, [100, 107, 110]), Expert::NextUse);
    assert_eq!(rounds(400, [100, 107, 120]), Expert::Frequency);
}

#[test]
fn uses_count_requests() {
    let system = path(1, 2);
    let mut policy = Policy::new(20);
    assert_eq!(policy.uses(key(1, 1)), 0);
    policy.request(&behind(&system, 2, 2));
    policy.request(&behind(&system, 3, 2));
    policy.grow(&[behind(&system, 3, 2), path(4, 1)].concat(), 4);
    assert_eq!([key(1, 2), key(2, 1), key(3, 1), key(4, 1)].map(|key| policy.uses(key)), [2, 1, 1, 1]);
    policy.request(&[behind(&system, 3, 2), path(4, 1)].concat());
    assert_eq!([key(1, 2), key(2, 1), key(3, 1), key(4, 1)].map(|key| policy.uses(key)), [3, 1, 2, 2]);
}
