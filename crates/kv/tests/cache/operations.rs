//! Random configurations and operations for the model-based test.

use proptest::prelude::*;
use reprise_kv::{CacheConfig, Ppm};

/// What to do; numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Start { base: u16, cut: u16, more: u8, pin: Option<u8>, chunk: u32, cache_prompt: bool, tenant: bool },
    Evaluate { slot: u8, tokens: u8, fails: bool },
    Truncate { slot: u8, len: u16 },
    Shift { slot: u8, keep: u16, discard: u16 },
    Release { slot: u8 },
    Copies { parent: u8, children: u8 },
    Clear { slot: u8 },
    Restore { slot: u8, base: u16, more: u8 },
    Settle { commit: bool },
    Publish,
    Share { slot: u8 },
    Purge,
}

pub(crate) fn configs() -> impl Strategy<Value = CacheConfig> {
    let ram_blocks = prop::sample::select(vec![0, 2, 5, 12, 40]);
    let similarity = prop::sample::select(vec![0, 100_000, 500_000]).prop_map(Ppm);
    (1..=4u32, 33..=100u32, 0..100u32, any::<bool>(), similarity, ram_blocks, any::<bool>()).prop_map(
        |(slots, slot_context, extra, unified, similarity, ram_blocks, cache_idle_slots)| {
            let (pool_tokens, add_bos) = (slot_context + extra, false);
            CacheConfig {
                slots,
                slot_context,
                pool_tokens,
                unified,
                similarity,
                ram_blocks,
                cache_idle_slots,
                add_bos,
            }
        },
    )
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let start = (
        (any::<u16>(), any::<u16>(), any::<u8>(), prop::option::weighted(0.3, any::<u8>())),
        (prop::sample::select(vec![0, 0, 1, 3, 8]), prop::bool::weighted(0.9), prop::bool::weighted(0.2)),
    );
    let start = start.prop_map(|((base, cut, more, pin), (chunk, cache_prompt, tenant))| Start {
        base,
        cut,
        more,
        pin,
        chunk,
        cache_prompt,
        tenant,
    });
    let evaluate = (any::<u8>(), 0..50u8, prop::bool::weighted(0.1));
    let restore = (any::<u8>(), any::<u16>(), any::<u8>());
    prop_oneof![
        6 => start,
        6 => evaluate.prop_map(|(slot, tokens, fails)| Evaluate { slot, tokens, fails }),
        1 => (any::<u8>(), any::<u16>()).prop_map(|(slot, len)| Truncate { slot, len }),
        2 => (any::<u8>(), any::<u16>(), any::<u16>()).prop_map(|(slot, keep, discard)| Shift { slot, keep, discard }),
        5 => any::<u8>().prop_map(|slot| Release { slot }),
        1 => (any::<u8>(), 1..4u8).prop_map(|(parent, children)| Copies { parent, children }),
        1 => any::<u8>().prop_map(|slot| Clear { slot }),
        1 => restore.prop_map(|(slot, base, more)| Restore { slot, base, more }),
        2 => any::<bool>().prop_map(|commit| Settle { commit }),
        3 => Just(Publish),
        3 => any::<u8>().prop_map(|slot| Share { slot }),
        1 => Just(Purge),
    ]
}
