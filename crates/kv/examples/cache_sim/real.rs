//! The cache that ships, whole: slot, prefix tree, pool and policy, without a model behind it.

use reprise_gguf::TokenId;
use reprise_kv::{BLOCK_TOKENS, Cache, CacheConfig, Millis, Ppm, Prompt, Tenant};

use crate::{CAPACITY, Contender, Request};

/// Longest conversation of any workload, in blocks.
const LONGEST: u32 = 160;

pub(crate) struct Real {
    cache: Cache,
    now: u64,
}

impl Real {
    /// One slot: requests come one after the other. Memory in all is [`CAPACITY`], and the spare block that a slot needs.
    pub(crate) fn new() -> Self {
        let config = CacheConfig {
            slots: 1,
            slot_context: LONGEST * BLOCK_TOKENS,
            pool_tokens: LONGEST * BLOCK_TOKENS,
            unified: false,
            similarity: Ppm::ratio(1, 10),
            ram_blocks: CAPACITY as u32 - LONGEST,
            cache_idle_slots: false,
            add_bos: false,
        };
        let cache = Cache::new(config);
        assert_eq!(cache.capacity() as usize, CAPACITY + 1, "the contenders must have the same memory");
        Self { cache, now: 0 }
    }
}

impl Contender for Real {
    fn serve(&mut self, request: &Request) -> usize {
        self.now += 1;
        let tokens: Vec<TokenId> = request.path.iter().flat_map(|block| tokens(*block)).collect();
        let prompt = request.prompt * BLOCK_TOKENS as usize;
        let asked = Prompt {
            tokens: &tokens[..prompt],
            pin: None,
            cache_prompt: true,
            reuse_chunk: 0,
            tenant: Tenant::default(),
        };
        let placement = self.cache.plan(&asked, Millis(self.now)).expect("the slot is idle");
        let (slot, reused) = (placement.slot, placement.reused);
        self.cache.apply(placement).expect("nothing has happened since");
        for part in [&tokens[reused as usize..prompt], &tokens[prompt..]] {
            // There is no model whose cells would have to follow.
            let _ = self.cache.append(slot, part).expect("what nobody reads makes way");
        }
        self.cache.release(slot, Millis(self.now));
        // The last token of a prompt is evaluated in any case.
        reused.div_ceil(BLOCK_TOKENS) as usize
    }
}

/// Made of the block's name; no two blocks begin alike.
fn tokens(block: u64) -> impl Iterator<Item = TokenId> {
    (0..u64::from(BLOCK_TOKENS)).map(move |at| {
        let mixed = (block ^ at << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        TokenId((mixed ^ mixed >> 29) as u32)
    })
}
