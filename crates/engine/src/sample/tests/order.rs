//! Where `std::sort` and `std::partial_sort` put equal elements.

use proptest::prelude::*;

use super::noise;
use crate::sample::order::{partial_sort, sort};

/// `(length, distinct keys, elements sorted or zero for all, hash of the resulting permutation)`.
const RECORDED: [(usize, u64, usize, u32); 17] = [
    (2, 1, 0, 0x1076_963a),
    (10, 3, 0, 0x2026_2fdc),
    (16, 4, 0, 0xa251_521b),
    (17, 4, 0, 0x8b07_e613),
    (33, 5, 0, 0x0328_297f),
    (100, 7, 0, 0xf878_d68b),
    (1000, 2, 0, 0xf849_3737),
    (1000, 50, 0, 0x6554_840d),
    (5000, 1, 0, 0x7212_0ff5),
    (5000, 300, 0, 0x28b9_e4f5),
    (30, 4, 7, 0xc462_2062),
    (512, 9, 40, 0x153c_175f),
    (512, 500, 128, 0xd310_60b1),
    (3000, 20, 40, 0xad7e_b979),
    (128, 10, 128, 0xe84f_71af),
    (100, 1, 100, 0xa53f_5277),
    (50, 6, 1, 0xe699_6be4),
];

fn hash(permutation: &[usize]) -> u32 {
    permutation.iter().fold(0x811c_9dc5, |hash, &index| (hash ^ index as u32).wrapping_mul(16_777_619))
}

#[test]
fn ties_stand_where_the_reference_puts_them() {
    for (length, distinct, count, expected) in RECORDED {
        let key = |&index: &usize| noise(index as u64) % distinct;
        let mut permutation: Vec<usize> = (0..length).collect();
        match count {
            0 => sort(&mut permutation, |a, b| key(a) < key(b)),
            count => partial_sort(&mut permutation, count, |a, b| key(a) < key(b)),
        }
        assert_eq!(hash(&permutation), expected, "{length} elements, {distinct} keys, {count} sorted");
    }
}

/// Keys on which every partition is as uneven as can be (M. D. McIlroy, "A Killer Adversary for Quicksort"), paired to
/// give ties: the sort runs out of its depth and falls back on the heap.
#[test]
fn the_fallback_of_a_deep_sort_is_the_references() {
    let keys: Vec<u32> = serde_json::from_str(include_str!("data/adversary.json")).unwrap();
    let mut permutation: Vec<usize> = (0..keys.len()).collect();
    sort(&mut permutation, |&a, &b| keys[a] < keys[b]);
    assert_eq!(hash(&permutation), 0xdc7d_d59d);
}

proptest! {
    #[test]
    fn sorting_sorts(keys in prop::collection::vec(0_u8..20, 0..200), count in 0_usize..220) {
        let mut expected = keys.clone();
        expected.sort_unstable();
        let mut sorted = keys.clone();
        sort(&mut sorted, |a, b| a < b);
        prop_assert_eq!(&sorted, &expected);
        let mut front = keys.clone();
        partial_sort(&mut front, count, |a, b| a < b);
        let count = count.min(keys.len());
        prop_assert_eq!(&front[..count], &expected[..count]);
        front.sort_unstable();
        prop_assert_eq!(&front, &expected);
    }

    #[test]
    fn an_inconsistent_order_does_no_harm(answers in prop::collection::vec(any::<bool>(), 1..50), length in 0_usize..300) {
        let next = std::cell::Cell::new(0);
        let moody = |_: &usize, _: &usize| {
            next.set(next.get() + 1);
            answers[next.get() % answers.len()]
        };
        let mut items: Vec<usize> = (0..length).collect();
        sort(&mut items, moody);
        partial_sort(&mut items, length / 2, moody);
        items.sort_unstable();
        prop_assert_eq!(items, (0..length).collect::<Vec<_>>());
    }
}
