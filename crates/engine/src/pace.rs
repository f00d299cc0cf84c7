//! How long drafts are: longer while they come true, none for a while when they do not.

/// A first draft is short: that the text will be a copy is not known yet.
const FIRST: u32 = 8;
/// Doublings of the rest after drafts of which nothing came true.
const LONGEST_REST: u32 = 5;

/// The drafts of one generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    length: u32,
    /// Tokens that still go by without a draft.
    rest: u32,
    /// Drafts in a row of which nothing came true.
    misses: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { length: FIRST, rest: 0, misses: 0 }
    }
}

impl Pace {
    /// How many tokens may be drafted now.
    pub(crate) fn length(&self) -> u32 {
        if self.rest > 0 { 0 } else { self.length }
    }

    /// A token was sampled.
    pub(crate) fn sampled(&mut self) {
        self.rest = self.rest.saturating_sub(1);
    }

    /// Of a draft of `drafted` tokens the first `accepted` came true.
    pub(crate) fn verified(&mut self, drafted: u32, accepted: u32) {
        if accepted == 0 {
            self.rest = (1 << self.misses.min(LONGEST_REST)) - 1;
            self.misses += 1;
            self.length = FIRST;
            return;
        }
        self.misses = 0;
        self.length = if accepted == drafted { self.length.saturating_mul(2) } else { accepted.max(FIRST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_grow_while_they_come_true() {
        let mut pace = Pace::default();
        pace.verified(8, 8);
        assert_eq!(pace.length(), 16);
        pace.verified(16, 16);
        assert_eq!(pace.length(), 32);
        pace.verified(32, 20);
        assert_eq!(pace.length(), 20);
        pace.verified(20, 1);
        assert_eq!(pace.length(), FIRST);
    }

    #[test]
    fn misses_are_followed_by_ever_longer_rests() {
        let mut pace = Pace::default();
        let mut rests = Vec::new();
        for _ in 0..8 {
            pace.verified(8, 0);
            let rest = (0..)
                .take_while(|_| {
                    let resting = pace.length() == 0;
                    pace.sampled();
                    resting
                })
                .count();
            rests.push(rest);
        }
        assert_eq!(rests, [0, 1, 3, 7, 15, 31, 31, 31]);
        pace.verified(8, 1);
        pace.verified(8, 0);
        assert_eq!(pace.length(), FIRST, "one miss is forgiven");
    }
}
