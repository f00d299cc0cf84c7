//! From flags to sizes: how many slots, how much context each, how many KV blocks.

use anyhow::{Result, bail};
use reprise_engine::EngineConfig;
use reprise_kv::{BLOCK_TOKENS, Ppm};

use crate::cli::{CacheArgs, ContextArgs};

/// llama.cpp pads contexts to this many tokens.
const CONTEXT_PADDING: u32 = 256;
/// Slots of `--parallel -1`.
const AUTO_SLOTS: u32 = 4;
/// Block count that stands for "no limit": more than any machine's memory, small enough for exact arithmetic.
const UNLIMITED_BLOCKS: u32 = 1 << 20;

/// The engine's configuration for these flags, as llama-server computes it (spec section 1.1).
///
/// # Errors
/// When a flag has a value that no server could run with.
pub(crate) fn engine_config(
    context: &ContextArgs,
    cache: &CacheArgs,
    train: u32,
    block_bytes: usize,
) -> Result<EngineConfig> {
    let (slots, unified) = slots(context)?;
    let (slot_context, pool_tokens) = context_sizes(context, slots, unified, train)?;
    if context.batch_size == 0 || context.ubatch_size == 0 {
        bail!("--batch-size and --ubatch-size must be at least 1");
    }
    Ok(EngineConfig {
        slots,
        slot_context,
        pool_tokens,
        unified,
        similarity: similarity(cache.slot_prompt_similarity)?,
        batch: context.batch_size,
        micro_batch: context.ubatch_size.min(context.batch_size),
        continuous_batching: !context.no_cont_batching,
        context_shift: context.context_shift,
        ram_blocks: ram_blocks(cache.cache_ram, block_bytes)?,
        cache_idle_slots: !cache.no_cache_idle_slots,
        max_image: (u64::from(slot_context) + u64::from(BLOCK_TOKENS))
            * (block_bytes as u64 / u64::from(BLOCK_TOKENS) + 64)
            + (1 << 20),
    })
}

fn slots(context: &ContextArgs) -> Result<(u32, bool)> {
    Ok(match context.parallel {
        -1 => (AUTO_SLOTS, !context.no_kv_unified),
        n if n > 0 => (n.unsigned_abs(), context.kv_unified),
        n => bail!("--parallel must be -1 or at least 1, not {n}"),
    })
}

/// `(context of one slot, tokens of all slots)`.
fn context_sizes(context: &ContextArgs, slots: u32, unified: bool, train: u32) -> Result<(u32, u32)> {
    let cap = if context.kv_unified_per_slot > 0 { context.kv_unified_per_slot } else { u32::MAX };
    let total = match context.ctx_size {
        0 if context.kv_unified_per_slot > 0 => checked_mul(slots, context.kv_unified_per_slot)?,
        0 if unified => train,
        0 => checked_mul(slots, train)?,
        n => n,
    };
    let total = pad(total)?;
    let sequence = if unified { total } else { pad(total / slots)? };
    let pool = if unified { total } else { checked_mul(sequence, slots)? };
    Ok((sequence.min(cap).min(train), pool))
}

fn pad(tokens: u32) -> Result<u32> {
    match tokens.max(1).checked_next_multiple_of(CONTEXT_PADDING) {
        Some(padded) => Ok(padded),
        None => bail!("a context of {tokens} tokens is too large"),
    }
}

fn checked_mul(slots: u32, tokens: u32) -> Result<u32> {
    match slots.checked_mul(tokens) {
        Some(total) => Ok(total),
        None => {
            bail!("{slots} slots of {tokens} tokens are too large; give a smaller --ctx-size or --parallel")
        }
    }
}

fn similarity(share: f32) -> Result<Ppm> {
    if !(0.0..=1.0).contains(&share) {
        bail!("--slot-prompt-similarity must be between 0 and 1, not {share}");
    }
    // Rounded: 0.1f32 must become exactly one tenth.
    Ok(Ppm((f64::from(share) * 1e6).round() as u32))
}

fn ram_blocks(mib: i64, block_bytes: usize) -> Result<u32> {
    Ok(match mib {
        -1 => UNLIMITED_BLOCKS,
        0 => 0,
        n if n > 0 => {
            let blocks = n.unsigned_abs().saturating_mul(1 << 20) / block_bytes.max(1) as u64;
            u32::try_from(blocks).unwrap_or(UNLIMITED_BLOCKS).min(UNLIMITED_BLOCKS)
        }
        n => bail!("--cache-ram must be -1 (no limit), 0 (off) or a number of MiB, not {n}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    /// `(slots, context of one, pool, unified)` for flags and a training context of 2048.
    fn sizes(flags: &str) -> (u32, u32, u32, bool) {
        let cli = Cli::try_parse_from(std::iter::once("x").chain(flags.split_whitespace())).unwrap();
        let c = engine_config(&cli.context, &cli.cache, 2048, 1 << 20).unwrap();
        (c.slots, c.slot_context, c.pool_tokens, c.unified)
    }

    #[test]
    fn context_of_a_slot_is_llama_servers() {
        assert_eq!(sizes(""), (4, 2048, 2048, true));
        assert_eq!(sizes("--parallel 2 -c 512"), (2, 256, 512, false));
        assert_eq!(sizes("--parallel 1 -c 512"), (1, 512, 512, false));
        assert_eq!(sizes("--parallel 4 -c 300"), (4, 256, 1024, false));
        assert_eq!(sizes("--parallel 2 -c 512 --kv-unified"), (2, 512, 512, true));
        assert_eq!(sizes("--parallel 2 -c 8192"), (2, 2048, 8192, false));
        assert_eq!(sizes("--parallel 3 --kv-unified-per-slot 300"), (3, 300, 1536, false));
        assert_eq!(sizes("-c 0 --parallel 2"), (2, 2048, 4096, false));
        assert_eq!(sizes("--parallel 3 -c 1000"), (3, 512, 1536, false));
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            "--parallel 0",
            "--parallel -7",
            "--slot-prompt-similarity 2",
            "--cache-ram -5",
            "--batch-size 0",
            "--parallel 4 -c 4294967295",
        ] {
            let cli = Cli::try_parse_from(std::iter::once("x").chain(flags.split_whitespace())).unwrap();
            assert!(engine_config(&cli.context, &cli.cache, 2048, 1 << 20).is_err(), "{flags}");
        }
    }
}
