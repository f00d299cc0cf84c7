//! Stage 6: which slot a request gets.
//!
//! llama-server's rule, with its comparisons done in integers: the pinned slot or nothing; else the idle slot whose
//! tokens cover the largest part of the prompt, if that is strictly more than the threshold (ties: lowest index); else
//! the idle slot that was used longest ago (ties: highest index).

use crate::ids::count;
use crate::prefix::common_prefix;
use crate::slot::Slot;
use crate::{CacheConfig, Ppm, Prompt, Reason, SlotId};

/// A chosen slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) slot: usize,
    pub(crate) reason: Reason,
}

/// Chooses a slot; `None` when the pinned slot, or every slot, is busy.
pub(crate) fn choose(config: &CacheConfig, slots: &[Slot], prompt: &Prompt<'_>) -> Option<Choice> {
    if let Some(SlotId(id)) = prompt.pin {
        let slot = id as usize % slots.len();
        return (!slots[slot].busy).then_some(Choice { slot, reason: Reason::Pinned });
    }
    most_similar(config, slots, prompt).or_else(|| least_recently_used(slots))
}

fn most_similar(config: &CacheConfig, slots: &[Slot], prompt: &Prompt<'_>) -> Option<Choice> {
    if config.similarity == Ppm(0) {
        return None;
    }
    let whole = count(prompt.tokens);
    let mut best: Option<(usize, u32)> = None;
    for (index, slot) in slots.iter().enumerate().filter(|(_, slot)| !slot.busy) {
        if slot.tenant != prompt.tenant {
            continue;
        }
        let common = common_prefix(&slot.content.tokens, prompt.tokens);
        if common > best.map_or(0, |(_, common)| common) && config.similarity.is_below(common, whole) {
            best = Some((index, common));
        }
    }
    best.map(|(slot, common)| Choice { slot, reason: Reason::Similarity(Ppm::ratio(common, whole)) })
}

fn least_recently_used(slots: &[Slot]) -> Option<Choice> {
    let idle = || slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
    // Reversed, because `min_by_key` gives the first of equals.
    let (slot, _) = idle().rev().min_by_key(|(_, slot)| slot.last_used)?;
    let reason = if idle().count() == 1 { Reason::OnlyFree } else { Reason::LeastRecentlyUsed };
    Some(Choice { slot, reason })
}
