//! How each expert ranks.

use super::{behind, key, path};
use crate::policy::experts::Expert;
use crate::policy::{NodeKey, Policy};

/// Which of these blocks the expert would give up.
fn choice(policy: &Policy, expert: Expert, keys: &[NodeKey]) -> NodeKey {
    let rank = |key: &NodeKey| expert.rank(policy.history.get(*key).unwrap(), &policy.time);
    keys.iter().copied().max_by_key(rank).unwrap()
}

fn asked(requests: &[(u64, u64)]) -> Policy {
    let mut policy = Policy::new(100);
    requests.iter().for_each(|(text, blocks)| policy.request(&path(*text, *blocks)));
    policy
}

#[test]
fn next_use_goes_by_the_gap() {
    // 1 and 2 every third request, 3 every sixth.
    let policy = asked(&[(1, 2), (2, 2), (3, 2), (1, 2), (2, 2), (9, 2), (1, 2), (2, 2), (3, 2)]);
    assert_eq!(choice(&policy, Expert::NextUse, &[key(1, 2), key(2, 2), key(3, 2)]), key(3, 2));
    assert_eq!(choice(&policy, Expert::Lru, &[key(1, 2), key(2, 2), key(3, 2)]), key(1, 2));
}

#[test]
fn next_use_gives_up_first_what_was_used_once_or_is_long_overdue() {
    let mut policy = asked(&[(1, 2), (2, 2), (1, 2), (2, 2), (3, 2)]);
    assert_eq!(choice(&policy, Expert::NextUse, &[key(1, 2), key(2, 2), key(3, 2)]), key(3, 2));
    for _ in 0..5 {
        policy.request(&path(2, 2));
    }
    assert_eq!(choice(&policy, Expert::NextUse, &[key(1, 2), key(2, 2)]), key(1, 2), "late");
    assert_eq!(choice(&policy, Expert::NextUse, &[key(1, 2), key(3, 2)]), key(3, 2), "late, but proven");
    for _ in 0..5 {
        policy.request(&path(2, 2));
    }
    assert_eq!(choice(&policy, Expert::NextUse, &[key(1, 2), key(3, 2)]), key(1, 2), "abandoned, and older");
}

#[test]
fn a_conversations_new_end_is_as_good_as_the_conversation() {
    let system = path(1, 2);
    let mut policy = Policy::new(100);
    let first = behind(&system, 2, 2);
    let second = behind(&first, 3, 2);
    policy.request(&first);
    policy.request(&behind(&system, 4, 2));
    policy.request(&second);
    let end = key(3, 2);
    assert_eq!(policy.uses(end), 1);
    let one_off = key(4, 2);
    assert_eq!(choice(&policy, Expert::NextUse, &[one_off, end]), one_off);
    // However often the system prompt is used, a prompt behind it that came once has not proved anything.
    for text in 10..20 {
        policy.request(&behind(&system, text, 2));
    }
    let record = |key| policy.history.get(key).unwrap();
    assert_eq!(record(key(19, 2)).habit, crate::policy::experts::Habit::NEW);
    assert_eq!(record(end).habit, record(key(2, 2)).habit);
    assert_ne!(record(end).habit, record(key(1, 2)).habit);
}

#[test]
fn frequency_counts_old_uses_less() {
    let mut policy = asked(&[(1, 2), (1, 2), (1, 2), (2, 2), (2, 2)]);
    let both = [key(1, 2), key(2, 2)];
    assert_eq!(choice(&policy, Expert::Frequency, &both), key(2, 2));
    // Long after, a newer use outweighs an old one.
    (0..3000).for_each(|_| policy.request(&path(3, 2)));
    policy.request(&path(2, 2));
    (0..3000).for_each(|_| policy.request(&path(3, 2)));
    assert_eq!(choice(&policy, Expert::Frequency, &both), key(1, 2));
}
