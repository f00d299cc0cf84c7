//! 400,000 random operations on small caches with a vocabulary of two tokens, against a naive model: plain token lists,
//! and a memory whose cells remember what was written. A wrong copy, rotation, share or eviction shows at once.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use reprise_gguf::TokenId;
use reprise_kv::{
    CacheConfig, Eviction, Owner, Placement, PoolFull, Prompt, RestoreError, SlotId, Source, Staged, Tenant,
};

use crate::operations::{Operation, configs, operation};
use crate::rig::Rig;

const CASES: u32 = 2_000;
const OPERATIONS: usize = 200;

#[test]
fn random_operations_keep_tokens_cells_and_invariants() {
    let rng_seed = RngSeed::Fixed(0);
    let config = Config { cases: CASES, rng_seed, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let case = (configs(), prop::collection::vec(operation(), OPERATIONS));
    let outcome = runner.run(&case, |(config, operations)| {
        let mut model = Model::new(config);
        operations.into_iter().for_each(|operation| model.step(operation));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

struct Model {
    rig: Rig,
    /// What each slot has to hold.
    expected: Vec<Vec<TokenId>>,
    staged: Vec<(Staged, Vec<TokenId>)>,
    coin: u32,
}

impl Model {
    fn new(config: CacheConfig) -> Self {
        let expected = vec![Vec::new(); config.slots as usize];
        Self { rig: Rig::new(config), expected, staged: Vec::new(), coin: 1 }
    }

    fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Start { base, cut, more, pin, chunk, cache_prompt, tenant } => {
                let mut tokens = self.some_tokens(base);
                tokens.truncate(usize::from(cut) % (tokens.len() + 1));
                tokens.extend(self.coins(usize::from(more) % 40 + 1));
                tokens.truncate(self.context() - 1);
                let pin = pin.map(|pin| SlotId(pin.into()));
                let tenant = Tenant(tenant.into());
                self.start(&Prompt { tokens: &tokens, pin, cache_prompt, reuse_chunk: chunk, tenant });
            }
            Operation::Evaluate { slot, tokens, fails } => self.evaluate(slot, tokens.into(), fails),
            Operation::Truncate { slot, len } => {
                let Some(slot) = self.running(slot) else { return };
                let expected = &mut self.expected[slot];
                let len = usize::from(len) % (expected.len() + 1);
                let dropped = self.rig.cache.truncate(id(slot), len as u32);
                assert_eq!(dropped as usize, expected.len() - len);
                expected.truncate(len);
            }
            Operation::Shift { slot, keep, discard } => self.shift(slot, keep.into(), discard.into()),
            Operation::Release { slot } => {
                let Some(slot) = self.running(slot) else { return };
                let now = self.rig.now();
                self.rig.cache.release(id(slot), now);
            }
            Operation::Copies { parent, children } => self.copies(parent, children.into()),
            Operation::Clear { slot } => {
                let slot = usize::from(slot) % self.expected.len();
                let dropped = self.rig.cache.clear(id(slot)) as usize;
                assert_eq!(dropped, std::mem::take(&mut self.expected[slot]).len());
            }
            Operation::Restore { slot, base, more } => {
                let mut tokens = self.some_tokens(base);
                tokens.extend(self.coins(usize::from(more) % 50));
                self.restore(usize::from(slot) % self.expected.len(), tokens);
            }
            Operation::Settle { commit } => self.settle(commit),
            Operation::Publish => {
                self.rig.cache.publish_idle();
                self.accept_emptied_slots(true);
            }
            Operation::Share { slot } => {
                let Some(slot) = self.running(slot) else { return };
                self.rig.cache.publish(id(slot));
            }
            Operation::Purge => {
                let purged = self.rig.cache.purge_idle();
                let lowest = (0..self.expected.len())
                    .find(|slot| self.is_idle(*slot) && !self.expected[*slot].is_empty());
                let lowest = lowest.filter(|_| self.rig.cache.config().unified);
                assert_eq!(purged, lowest.map(|slot| (id(slot), self.expected[slot].len() as u32)));
                lowest.into_iter().for_each(|slot| self.expected[slot].clear());
            }
        }
        self.verify();
    }

    fn start(&mut self, prompt: &Prompt<'_>) {
        let now = self.rig.now();
        let Some(planned) = self.rig.cache.plan(prompt, now) else {
            let busy = |slot: usize| self.rig.cache.slot(id(slot)).busy;
            let mut slots = 0..self.expected.len();
            assert!(
                prompt.pin.map_or_else(|| slots.all(busy), |pin| busy(pin.0 as usize % self.expected.len()))
            );
            return;
        };
        self.assert_reuse(prompt, &planned);
        let slot = planned.slot.0 as usize;
        let mut held = self.everything();
        // Its last token is evaluated again.
        held.retain(|(_, tokens)| !prompt.tokens.starts_with(tokens));
        let applied = self.rig.cache.apply(planned).expect("nothing has changed since the plan");
        self.rig.memory.carry_out(&applied.work);
        let placement = applied.placement;
        self.expected[slot] = prompt.tokens[..placement.reused as usize].to_vec();
        self.accept(&applied.work.evicted, Some(slot));
        placement.purged.iter().for_each(|slot| self.expected[slot.0 as usize].clear());
        self.assert_losses(&held, &[placement.evicted, applied.work.evicted].concat());
    }

    /// The count is the largest over everything that the tenant has, unless the pool is too small for it.
    fn assert_reuse(&self, prompt: &Prompt<'_>, placement: &Placement) {
        let tenant = self.rig.cache.slot(placement.slot).tenant;
        let shown = &self.expected[placement.slot.0 as usize];
        let own = if tenant == prompt.tenant { naive_reuse(shown, prompt) } else { 0 };
        let held = self.rig.cache.held().filter(|(tenant, ..)| *tenant == prompt.tenant);
        let best = held.map(|(_, tokens, _)| naive_reuse(&tokens, prompt)).fold(own, usize::max);
        let reused = placement.reused as usize;
        if self.rig.cache.config().unified {
            assert!(reused <= best && reused >= own.min(naive_prefix(shown, prompt)));
        } else {
            // A few first tokens may not be worth it.
            assert!(reused == best || best < 4 && reused == own, "{reused} of {best}");
        }
        assert_eq!(placement.from == Source::Slot, reused <= own, "a tie goes to the slot");
    }

    /// What was there before is still there, unless it was reported as lost.
    fn assert_losses(&self, before: &[(Tenant, Vec<TokenId>)], evicted: &[Eviction]) {
        let after = self.everything();
        let gone = |(tenant, tokens): &&(Tenant, Vec<TokenId>)| {
            !tokens.is_empty()
                && !after.iter().any(|(other, held)| other == tenant && held.starts_with(tokens))
        };
        let gone = before.iter().filter(gone).count();
        assert!(gone == 0 || !evicted.is_empty(), "{gone} texts are gone, and nobody said so");
    }

    /// All texts that slots show or that are held beyond them.
    fn everything(&self) -> Vec<(Tenant, Vec<TokenId>)> {
        let held = self.rig.cache.held().map(|(tenant, tokens, _)| (tenant, tokens));
        self.rig.cache.slots().map(|(_, slot)| (slot.tenant, slot.tokens.to_vec())).chain(held).collect()
    }

    /// Idle slots are shorter by what was reported of them.
    fn accept(&mut self, evicted: &[Eviction], but: Option<usize>) {
        for Eviction { owner, tokens } in evicted {
            let Owner::Slot(SlotId(slot)) = owner else { continue };
            if Some(*slot as usize) != but {
                let shown = &mut self.expected[*slot as usize];
                shown.truncate(shown.len().saturating_sub(*tokens as usize));
            }
        }
    }

    fn evaluate(&mut self, slot: u8, tokens: usize, fails: bool) {
        let Some(slot) = self.running(slot) else { return };
        let tokens = self.coins(tokens);
        let len = self.expected[slot].len();
        if fails {
            // A failed pass leaves its cells undefined; they are given back.
            if let Ok(work) = self.rig.cache.append(id(slot), &tokens) {
                self.accept(&work.evicted, None);
                self.rig.memory.carry_out(&work);
                self.rig.cache.truncate(id(slot), len as u32);
            }
            return;
        }
        let held = self.everything();
        match self.rig.try_evaluate(id(slot), &tokens) {
            Ok(evicted) => {
                self.accept(&evicted, None);
                self.expected[slot].extend(tokens);
                self.assert_losses(&held, &evicted);
            }
            Err(PoolFull::Slot { wanted, room, .. }) => {
                assert_eq!((wanted as usize, room as usize), (tokens.len(), self.context() - len));
                assert!(wanted > room);
            }
            Err(PoolFull::Pool { wanted, room }) => {
                assert!(self.rig.cache.config().unified && wanted > room);
                let staged: usize = self.staged.iter().map(|(_, tokens)| tokens.len()).sum();
                let most: usize =
                    self.expected.iter().map(Vec::len).sum::<usize>() + staged + wanted as usize;
                assert!(most > self.rig.cache.config().pool_tokens as usize, "a full pool that is not full");
            }
        }
    }

    fn shift(&mut self, slot: u8, keep: usize, discard: usize) {
        let Some(slot) = self.running(slot) else { return };
        let before = self.expected[slot].clone();
        let keep = keep % (before.len() + 2);
        let discard = discard % (before.len() + 2);
        let work = self.rig.cache.shift(id(slot), keep as u32, discard as u32);
        self.accept(&work.evicted, None);
        self.rig.memory.carry_out(&work);
        self.accept_emptied_slots(false);
        let keep = keep.min(before.len());
        let rest = &before[(keep + discard).min(before.len())..];
        let after = self.rig.cache.slot(id(slot)).tokens.to_vec();
        assert_eq!(after[..keep], before[..keep]);
        assert!(rest.ends_with(&after[keep..]));
        assert!(
            after.len() == keep + rest.len() || self.rig.cache.config().unified,
            "more was dropped than asked for"
        );
        self.expected[slot] = after;
    }

    fn copies(&mut self, parent: u8, children: u32) {
        let Some(parent) = self.running(parent) else { return };
        let Some(children) = self.rig.cache.plan_children(id(parent), children) else { return };
        for child in children {
            self.rig.cache.claim(child);
            self.rig.cache.fork(id(parent), child);
            self.expected[child.0 as usize] = self.expected[parent].clone();
        }
    }

    fn restore(&mut self, slot: usize, tokens: Vec<TokenId>) {
        match self.rig.cache.restore(id(slot), Tenant((self.coin % 2).into()), &tokens, u32::MAX) {
            Ok(staged) => {
                self.accept(&staged.evicted, None);
                self.rig.memory.write(&tokens, &staged.blocks, 0);
                staged.purged.iter().for_each(|slot| self.expected[slot.0 as usize].clear());
                self.staged.push((staged, tokens));
            }
            Err(RestoreError::Busy(_)) => assert!(!self.is_idle(slot)),
            Err(RestoreError::Context { .. }) => assert!(tokens.len() > self.context()),
            Err(RestoreError::Pool { .. }) => {
                assert!(self.rig.cache.config().unified || !self.staged.is_empty());
            }
        }
    }

    fn settle(&mut self, commit: bool) {
        let Some((staged, tokens)) = self.staged.pop() else { return };
        if commit {
            self.expected[staged.slot.0 as usize] = tokens;
            let now = self.rig.now();
            self.rig.cache.commit_restore(staged, now);
        } else {
            self.rig.cache.abort_restore(staged);
        }
    }

    /// In a unified pool, operations may have emptied idle slots; after publishing only those that are held.
    fn accept_emptied_slots(&mut self, published: bool) {
        for slot in 0..self.expected.len() {
            let emptied = self.rig.cache.slot(id(slot)).is_empty() && !self.expected[slot].is_empty();
            if emptied && self.is_idle(slot) && self.rig.cache.config().unified {
                assert!(!published || self.rig.cache.config().ram_blocks > 0);
                self.expected[slot].clear();
            }
        }
    }

    fn verify(&self) {
        self.rig.verify();
        for (slot, expected) in self.expected.iter().enumerate() {
            assert_eq!(self.rig.cache.slot(id(slot)).tokens, expected, "slot {slot}");
        }
        for (staged, tokens) in &self.staged {
            self.rig.memory.assert_holds(tokens, &staged.blocks, "a staged restore");
        }
    }

    /// A slot on which a request runs, from a random number.
    fn running(&self, slot: u8) -> Option<usize> {
        let staged = |slot: usize| self.staged.iter().any(|(staged, _)| staged.slot == id(slot));
        let running: Vec<_> =
            (0..self.expected.len()).filter(|slot| !self.is_idle(*slot) && !staged(*slot)).collect();
        (!running.is_empty()).then(|| running[usize::from(slot) % running.len()])
    }

    fn is_idle(&self, slot: usize) -> bool {
        !self.rig.cache.slot(id(slot)).busy
    }

    /// Tokens that are there, so that prompts find something.
    fn some_tokens(&self, base: u16) -> Vec<TokenId> {
        let held = self.rig.cache.held().map(|(_, tokens, _)| tokens);
        let mut held: Vec<_> = self.expected.iter().cloned().chain(held).collect();
        held.swap_remove(usize::from(base) % held.len())
    }

    /// Pseudo-random tokens of the vocabulary of two.
    fn coins(&mut self, count: usize) -> Vec<TokenId> {
        let mut flip = || {
            self.coin = self.coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            TokenId(self.coin >> 31)
        };
        (0..count).map(|_| flip()).collect()
    }

    fn context(&self) -> usize {
        self.rig.cache.config().slot_context as usize
    }
}

fn id(slot: usize) -> SlotId {
    SlotId(slot as u32)
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    (0..a.len().min(b.len())).find(|i| a[*i] != b[*i]).unwrap_or(a.len().min(b.len()))
}

fn naive_prefix(cached: &[TokenId], prompt: &Prompt<'_>) -> usize {
    if prompt.cache_prompt { common(cached, prompt.tokens).min(prompt.tokens.len() - 1) } else { 0 }
}

/// llama-server's count, written as it is described: two heads walk over the lists.
fn naive_reuse(cached: &[TokenId], prompt: &Prompt<'_>) -> usize {
    if !prompt.cache_prompt {
        return 0;
    }
    let mut reused = common(cached, prompt.tokens);
    let (mut head_c, mut head_p) = (reused, reused);
    while prompt.reuse_chunk > 0 && head_c < cached.len() && head_p < prompt.tokens.len() {
        let run = common(&cached[head_c..], &prompt.tokens[head_p..]);
        if run >= prompt.reuse_chunk as usize {
            reused += run;
            head_p += run;
            head_c += run;
        } else {
            head_c += 1;
        }
    }
    reused.min(prompt.tokens.len() - 1)
}
