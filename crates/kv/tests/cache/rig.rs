//! A cache with a memory under it in which every cell remembers its token and position, as a model's KV would.

use reprise_gguf::TokenId;
use reprise_kv::{
    BLOCK_TOKENS, BlockId, Cache, CacheConfig, Cell, Eviction, Millis, Placement, PoolFull, Ppm, Prompt,
    SlotId, Tenant, Work,
};

/// What llama-server reports of a request, and how it was placed.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) slot: u32,
    pub(crate) cache_n: u32,
    pub(crate) prompt_n: u32,
    pub(crate) placement: Placement,
}

impl Done {
    /// `(slot, cache_n)`
    pub(crate) fn at(&self) -> (u32, u32) {
        (self.slot, self.cache_n)
    }

    /// `(cache_n, prompt_n)`
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.cache_n, self.prompt_n)
    }
}

pub(crate) struct Rig {
    pub(crate) cache: Cache,
    pub(crate) memory: Memory,
    now: u64,
}

/// What every cell that was ever written holds.
#[derive(Default)]
pub(crate) struct Memory(Vec<[Option<Value>; BLOCK_TOKENS as usize]>);

/// What a model's KV depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    token: TokenId,
    position: u32,
    /// Stands for this token and all that were before it when it was evaluated.
    context: u64,
}

impl Rig {
    pub(crate) fn new(config: CacheConfig) -> Self {
        Self { cache: Cache::new(config), memory: Memory::default(), now: 0 }
    }

    pub(crate) fn now(&mut self) -> Millis {
        self.now += 1;
        Millis(self.now)
    }

    /// Runs a completion from placement to release; `generated` tokens but the last get into the slot.
    pub(crate) fn run(&mut self, prompt: &Prompt<'_>, generated: &[TokenId]) -> Done {
        let placement = self.start(prompt).expect("a slot is idle");
        let slot = placement.slot;
        self.evaluate(slot, &prompt.tokens[placement.reused as usize..]);
        for token in &generated[..generated.len().saturating_sub(1)] {
            self.evaluate(slot, &[*token]);
        }
        let now = self.now();
        self.cache.release(slot, now);
        self.verify();
        let prompt_n = prompt.tokens.len() as u32 - placement.reused;
        Done { slot: slot.0, cache_n: placement.reused, prompt_n, placement }
    }

    /// Places a prompt and publishes idle slots, as a server does when it launches a request.
    pub(crate) fn start(&mut self, prompt: &Prompt<'_>) -> Option<Placement> {
        let now = self.now();
        let planned = self.cache.plan(prompt, now)?;
        let applied = self.cache.apply(planned.clone()).expect("nothing has changed since the plan");
        assert_eq!(applied.placement, planned);
        self.memory.carry_out(&applied.work);
        self.cache.publish_idle();
        Some(planned)
    }

    pub(crate) fn evaluate(&mut self, slot: SlotId, tokens: &[TokenId]) {
        drop(self.try_evaluate(slot, tokens).expect("there is room"));
    }

    /// Gives what had to make room.
    pub(crate) fn try_evaluate(
        &mut self,
        slot: SlotId,
        tokens: &[TokenId],
    ) -> Result<Vec<Eviction>, PoolFull> {
        let work = self.cache.append(slot, tokens)?;
        self.memory.carry_out(&work);
        let view = self.cache.slot(slot);
        self.memory.write(view.tokens, view.blocks, view.tokens.len() - tokens.len());
        Ok(work.evicted)
    }

    /// Every token of every slot lies in its cell, at its position. What is held beyond the slots is besides what evaluating it
    /// would give. And the invariants hold.
    pub(crate) fn verify(&self) {
        self.cache.check().expect("the invariants hold");
        for (id, slot) in self.cache.slots() {
            self.memory.assert_holds(slot.tokens, slot.blocks, &format!("slot {id}"));
        }
        for (tenant, tokens, blocks) in self.cache.held() {
            self.memory.assert_pure(tenant, &tokens, &blocks);
        }
    }

    pub(crate) fn tokens(&self, slot: u32) -> &[TokenId] {
        self.cache.slot(SlotId(slot)).tokens
    }
}

impl Memory {
    pub(crate) fn carry_out(&mut self, work: &Work) {
        for copy in &work.copies {
            assert_ne!(copy.from.block, copy.to.block, "copies are between blocks");
            for i in 0..copy.count {
                let value = *self.at(cell(copy.from, i));
                *self.at(cell(copy.to, i)) = value;
            }
        }
        for rotation in &work.rotations {
            for i in 0..rotation.count {
                let value = self.at(cell(rotation.cell, i)).as_mut().expect("rotated cells are written");
                value.position =
                    value.position.checked_add_signed(rotation.delta).expect("positions are not negative");
            }
        }
    }

    /// Evaluates the tokens from `start` on.
    pub(crate) fn write(&mut self, tokens: &[TokenId], blocks: &[BlockId], start: usize) {
        for (position, token) in (0..).zip(tokens).skip(start) {
            let before = u32::checked_sub(position, 1).and_then(|before| *self.at(place(blocks, before)));
            let context = extend(before.map_or(0, |before| before.context), *token);
            *self.at(place(blocks, position)) = Some(Value { token: *token, position, context });
        }
    }

    pub(crate) fn assert_holds(&self, tokens: &[TokenId], blocks: &[BlockId], whose: &str) {
        for (position, token) in (0..).zip(tokens) {
            let (block, offset) = place(blocks, position);
            let held = self.0[block][offset].map(|value| (value.token, value.position));
            assert_eq!(held, Some((*token, position)), "{whose}, position {position}");
        }
    }

    /// As if the tokens had been evaluated from an empty cache.
    pub(crate) fn assert_pure(&self, tenant: Tenant, tokens: &[TokenId], blocks: &[BlockId]) {
        let mut context = 0;
        for (position, token) in (0..).zip(tokens) {
            context = extend(context, *token);
            let (block, offset) = place(blocks, position);
            let pure = Value { token: *token, position, context };
            assert_eq!(self.0[block][offset], Some(pure), "held for {tenant:?}, position {position}");
        }
    }

    fn at(&mut self, (block, offset): (usize, usize)) -> &mut Option<Value> {
        if self.0.len() <= block {
            self.0.resize(block + 1, [None; BLOCK_TOKENS as usize]);
        }
        &mut self.0[block][offset]
    }
}

fn extend(context: u64, token: TokenId) -> u64 {
    (context ^ u64::from(token.0 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn place(blocks: &[BlockId], position: u32) -> (usize, usize) {
    (blocks[(position / BLOCK_TOKENS) as usize].index() as usize, (position % BLOCK_TOKENS) as usize)
}

fn cell(cell: Cell, step: u32) -> (usize, usize) {
    assert!(cell.offset + step < BLOCK_TOKENS, "work never crosses the end of a block");
    (cell.block.index() as usize, (cell.offset + step) as usize)
}

/// `slots` slots of 256 tokens, similarity 0.1, a RAM tier that never fills.
pub(crate) fn config(slots: u32) -> CacheConfig {
    CacheConfig {
        slots,
        slot_context: 256,
        pool_tokens: 256 * slots,
        unified: false,
        similarity: Ppm(100_000),
        ram_blocks: 1_000,
        cache_idle_slots: true,
        add_bos: true,
    }
}

pub(crate) fn prompt(tokens: &[TokenId]) -> Prompt<'_> {
    Prompt { tokens, pin: None, cache_prompt: true, reuse_chunk: 0, tenant: Tenant(0) }
}

pub(crate) fn pinned(tokens: &[TokenId], slot: u32) -> Prompt<'_> {
    Prompt { pin: Some(SlotId(slot)), ..prompt(tokens) }
}

/// BOS, then `len - 1` tokens that occur in no other text.
pub(crate) fn text(name: u32, len: u32) -> Vec<TokenId> {
    std::iter::once(TokenId(1)).chain((1..len).map(|i| TokenId(name * 1_000 + i))).collect()
}

/// A text of runs: `(token, count)`.
pub(crate) fn runs(runs: &[(u32, usize)]) -> Vec<TokenId> {
    runs.iter().flat_map(|(token, count)| std::iter::repeat_n(TokenId(*token), *count)).collect()
}
