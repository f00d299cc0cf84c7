//! "Never worse than llama-server", held against its own bookkeeping: whole prompts in slots, whole states moved in and
//! out of a RAM cache without a size limit.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reprise_gguf::TokenId;
use reprise_kv::{CacheConfig, Ppm, Prompt, SlotId, Tenant};

use crate::rig::{Rig, config};

/// llama-server's slots and prompt cache as its rules are described, fractions kept exact.
#[derive(Default)]
struct Reference {
    slots: Vec<ReferenceSlot>,
    cache: Vec<Vec<TokenId>>,
    similarity: u64,
    unified: bool,
    now: i64,
}

#[derive(Clone)]
struct ReferenceSlot {
    tokens: Vec<TokenId>,
    last_used: i64,
}

impl Reference {
    fn run(&mut self, prompt: &[TokenId], pin: Option<usize>, generated: &[TokenId]) -> (u32, u32) {
        let (slot, update_cache) = self.choose(prompt, pin);
        if update_cache {
            self.save(slot);
            self.load(slot, prompt);
        }
        for other in (0..self.slots.len()).filter(|other| *other != slot) {
            self.save(other);
            if self.unified {
                self.slots[other].tokens.clear();
            }
        }
        let reused = common(&self.slots[slot].tokens, prompt).min(prompt.len() - 1);
        self.now += 1;
        let tokens = [prompt, &generated[..generated.len() - 1]].concat();
        self.slots[slot] = ReferenceSlot { tokens, last_used: self.now };
        (slot as u32, reused as u32)
    }

    fn choose(&self, prompt: &[TokenId], pin: Option<usize>) -> (usize, bool) {
        let (mut chosen, mut best) = (pin, 0);
        if self.similarity > 0 {
            for slot in (0..self.slots.len()).filter(|slot| pin.is_none_or(|pin| pin == *slot)) {
                let lcp = common(&self.slots[slot].tokens, prompt);
                if lcp > best && lcp as u64 * 1_000_000 > self.similarity * prompt.len() as u64 {
                    (best, chosen) = (lcp, Some(slot));
                }
            }
            if let Some(slot) = chosen {
                return (slot, best * 2 < self.slots[slot].tokens.len());
            }
        }
        if let Some(slot) = chosen {
            return (slot, false);
        }
        let lru = (0..self.slots.len()).rev().min_by_key(|slot| self.slots[*slot].last_used);
        (lru.expect("there are slots"), true)
    }

    fn save(&mut self, slot: usize) {
        let tokens = self.slots[slot].tokens.clone();
        if !tokens.is_empty() && !self.cache.iter().any(|entry| entry.starts_with(&tokens)) {
            self.cache.retain(|entry| !tokens.starts_with(entry));
            self.cache.push(tokens);
        }
    }

    fn load(&mut self, slot: usize, prompt: &[TokenId]) {
        let tokens = &self.slots[slot].tokens;
        let lcp = common(tokens, prompt);
        // f_keep as a fraction; that of an empty slot is below all others.
        let (mut keep, mut sim) =
            (if tokens.is_empty() { (-1, 1) } else { (lcp as i64, tokens.len() as i64) }, lcp);
        let mut found = None;
        for (at, entry) in self.cache.iter().enumerate() {
            let lcp = common(entry, prompt);
            let (kept, len) = (lcp as i64, entry.len() as i64);
            if kept * 4 >= len && kept * keep.1 > keep.0 * len && lcp > sim {
                (keep, sim, found) = ((kept, len), lcp, Some(at));
            }
        }
        if let Some(at) = found {
            self.slots[slot].tokens = self.cache.remove(at);
        }
    }
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A prompt continues what an earlier request left, up to a point.
#[derive(Debug, Clone)]
struct Step {
    base: usize,
    cut: usize,
    more: Vec<u32>,
    pin: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let more = prop::collection::vec(2..4u32, 1..30);
    let pin = prop::option::weighted(0.2, 0..4usize);
    (any::<usize>(), any::<usize>(), more, pin).prop_map(|(base, cut, more, pin)| Step {
        base,
        cut,
        more,
        pin,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_slots_and_never_fewer_tokens_reused(
        slots in 1..4usize,
        similarity in prop::sample::select(vec![0, 100_000, 500_000]),
        unified in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let pool_tokens = 256 * slots as u32;
        let shared = CacheConfig { similarity: Ppm(similarity), unified, pool_tokens, ..config(slots as u32) };
        let mut rig = Rig::new(shared);
        let empty = ReferenceSlot { tokens: Vec::new(), last_used: -1 };
        let mut reference =
            Reference { slots: vec![empty; slots], similarity: similarity.into(), unified, ..Reference::default() };
        let mut left: Vec<Vec<TokenId>> = vec![vec![TokenId(1)]];
        for Step { base, cut, more, pin } in steps {
            let base = &left[base % left.len()];
            let mut prompt = base[..=cut % base.len()].to_vec();
            prompt.extend(more.into_iter().map(TokenId));
            prompt.truncate(200);
            let pin = pin.map(|pin| pin % slots);
            let generated = [4, 5, 6].map(|token| TokenId(token + left.len() as u32 % 5));
            let (slot, floor) = reference.run(&prompt, pin, &generated);
            let pin = pin.map(|pin| SlotId(pin as u32));
            let request = Prompt { tokens: &prompt, pin, cache_prompt: true, reuse_chunk: 0, tenant: Tenant(0) };
            let done = rig.run(&request, &generated);
            prop_assert_eq!(done.slot, slot);
            // A few first tokens are nothing to look for, if the text that was nothing more has grown meanwhile.
            prop_assert!(done.cache_n >= floor || floor < 4, "{} of {} tokens reused", done.cache_n, floor);
            left.push([prompt.as_slice(), &generated].concat());
        }
    }
}
