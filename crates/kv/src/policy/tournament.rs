//! Which expert decides: the one whose shadow cache found most lately.

use super::experts::{Expert, Time};

/// Bits behind the point of scores.
const FRACTION: u32 = 8;
/// A round is forgotten after the cache could have been filled about so many times: a few cycles of a working set that
/// nearly fits.
const WINDOW: u64 = 8;
/// Rounds that are remembered at least.
const SHORTEST_WINDOW: u64 = 64;
/// Whoever takes the lead is better by a sixteenth of the leader's score, ...
const MARGIN: u64 = 16;
/// ... and by half the capacity, so that chance in a short history does not decide.
const LEAD: u64 = 2;
/// Rounds before anyone but LRU may lead.
const FIRST_ROUND: u64 = 16;

#[derive(Debug)]
pub(super) struct Tournament {
    /// Least lead in score.
    lead: u64,
    /// Blocks found, decayed, fixed point.
    scores: [u64; Expert::COUNT],
    leader: Expert,
}

impl Tournament {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            lead: (u64::from(capacity) << FRACTION) / LEAD,
            scores: Default::default(),
            leader: Expert::Lru,
        }
    }

    pub(super) fn leader(&self) -> Expert {
        self.leader
    }

    /// Counts the blocks that each expert's shadow cache found.
    pub(super) fn round(&mut self, found: [u64; Expert::COUNT], time: &Time) {
        let window = (WINDOW * time.turnover()).max(SHORTEST_WINDOW);
        for (score, found) in self.scores.iter_mut().zip(found) {
            *score = *score - *score / window + (found << FRACTION);
        }
        let score = |expert: Expert| self.scores[expert as usize];
        if score(self.leader) < score(Expert::Lru) {
            self.leader = Expert::Lru;
        }
        for expert in Expert::ALL {
            let leader = score(self.leader);
            if time.now >= FIRST_ROUND && score(expert) > leader + leader / MARGIN + self.lead {
                self.leader = expert;
            }
        }
    }
}
