//! The experts: how each of them ranks blocks, in integers.

use super::NodeKey;
use super::history::Record;

/// Bits behind the point of gaps and weights.
const FRACTION: u32 = 8;
/// A new gap counts for a quarter. Cycles have no spread, so any share does there; random orders want a smooth mean, a
/// new habit should show within a few uses.
const GAP_SHARE: i64 = 4;
/// A block that is late by so many of its gaps is taken as abandoned. With memoryless use that errs once in e^5.
const ABANDONED: u64 = 4;
/// A use counts half after the cache could have been filled so many times. Less forgets what Zipf's tail teaches, more
/// keeps what is over.
const HALF_LIFE: u64 = 16;
/// Requests over which the mean length of prompts is taken.
const LENGTHS: i64 = 16;

/// Time counted in requests, and how long a request's blocks would stay if nothing were reused.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) now: u64,
    capacity: u64,
    /// Mean blocks per prompt, fixed point.
    length: i64,
}

impl Time {
    pub(super) fn new(capacity: u32) -> Self {
        Self { now: 0, capacity: u64::from(capacity), length: 0 }
    }

    pub(super) fn request(&mut self, blocks: usize) {
        self.now += 1;
        let blocks = (blocks as i64) << FRACTION;
        self.length = if self.length == 0 { blocks } else { self.length + (blocks - self.length) / LENGTHS };
    }

    /// Requests of the usual length that fill the cache.
    pub(super) fn turnover(&self) -> u64 {
        ((self.capacity << FRACTION) / self.length.unsigned_abs().max(1)).clamp(1, 1 << 20)
    }
}

/// One way to choose what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expert {
    /// What was used longest ago.
    Lru,
    /// What will be used last, going by the mean gap between uses; first of all what was used only once.
    NextUse,
    /// What was used least, old uses counting less.
    Frequency,
}

impl Expert {
    pub(super) const COUNT: usize = 3;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::Lru, Self::NextUse, Self::Frequency];

    /// The greater rank goes first.
    pub(super) fn rank(self, record: &Record, time: &Time) -> Rank {
        let age = time.now - record.last;
        let (unproven, loss) = match self {
            Self::Lru => (false, 0),
            Self::NextUse => match record.habit.distance(age) {
                // Weighted by the root of what is left of the conversation, so that many lose a little at the end
                // rather than one everything: as many hits, and no request that starts from nothing.
                Some(distance) => {
                    (false, distance.saturating_mul((u64::from(record.depth) << (2 * FRACTION)).isqrt()))
                }
                None => (true, 0),
            },
            Self::Frequency => (false, u64::MAX - record.habit.weight(age, time)),
        };
        Rank { unproven, loss, age, depth: record.depth, key: record.key }
    }
}

/// The order in which blocks go: the greatest first. Equals differ in depth and, at last, in their key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    unproven: bool,
    loss: u64,
    age: u64,
    depth: u32,
    key: NodeKey,
}

impl Rank {
    /// Of a block that no remembered request has asked for: it goes before all others.
    pub(super) fn unknown(key: NodeKey, depth: u32) -> Self {
        Self { unproven: true, loss: u64::MAX, age: u64::MAX, depth, key }
    }
}

/// How a block is used, as far as the experts care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Habit {
    /// Mean requests between uses, fixed point; `None` while it was used once.
    gap: Option<u64>,
    /// Decayed uses at the last one, fixed point.
    weight: u64,
}

impl Habit {
    /// First use.
    pub(super) const NEW: Self = Self { gap: None, weight: 1 << FRACTION };

    /// Another use, `age` requests after the one before.
    pub(super) fn again(&mut self, age: u64, time: &Time) {
        let sample = age.min(u64::from(u32::MAX)) << FRACTION;
        self.weight = self.weight(age, time) + Self::NEW.weight;
        self.gap = Some(self.gap.map_or(sample, |gap| {
            let step = (sample as i64 - gap as i64) / GAP_SHARE;
            gap.saturating_add_signed(step)
        }));
    }

    /// Requests until the next use, fixed point; `None` if none is foreseen. What is late counts as the further away the
    /// later it is.
    fn distance(&self, age: u64) -> Option<u64> {
        let gap = self.gap?;
        let age = age << FRACTION;
        (age <= gap.saturating_mul(1 + ABANDONED)).then(|| gap.abs_diff(age))
    }

    /// Decayed uses now, fixed point; a straight line between the halvings.
    fn weight(&self, age: u64, time: &Time) -> u64 {
        let half_life = HALF_LIFE * time.turnover();
        let halved = self.weight.checked_shr((age / half_life) as u32).unwrap_or(0);
        halved - halved * (age % half_life) / (2 * half_life)
    }
}
