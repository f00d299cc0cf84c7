//! How a forward pass is shared between prompts.

use proptest::prelude::*;

use super::shares;

#[test]
fn one_prompt_gets_everything_it_needs() {
    assert_eq!(shares(512, &[2000]), [512]);
    assert_eq!(shares(512, &[100]), [100]);
    assert_eq!(shares(512, &[]), Vec::<u32>::new());
    assert_eq!(shares(0, &[5, 6]), [0, 0]);
}

#[test]
fn the_shortest_goes_first_and_the_oldest_keeps_a_quarter() {
    assert_eq!(shares(512, &[8000, 50]), [462, 50]);
    assert_eq!(shares(512, &[8000, 400]), [128, 384]);
    assert_eq!(shares(512, &[8000, 700, 100]), [128, 284, 100]);
    assert_eq!(shares(1, &[8000, 700]), [1, 0]);
}

#[test]
fn equals_are_served_in_order_of_age() {
    assert_eq!(shares(512, &[1000, 1000]), [512, 0]);
}

proptest! {
    #[test]
    fn nothing_is_wasted_and_nobody_gets_too_much(
        room in 0..600_u32,
        remaining in prop::collection::vec(1..1000_u32, 0..8),
    ) {
        let shares = shares(room, &remaining);
        prop_assert_eq!(shares.iter().sum::<u32>(), room.min(remaining.iter().sum()));
        prop_assert!(shares.iter().zip(&remaining).all(|(share, remaining)| share <= remaining));
        if let (Some(share), true) = (shares.first(), room > 0) {
            prop_assert!(*share > 0);
        }
    }
}
