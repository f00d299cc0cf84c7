//! From what an operator says to sizes: how many slots, how much context each, how many KV blocks. All hosts size their
//! engines here, so that the same words mean the same.

use reprise_gguf::Gguf;
use reprise_kv::Ppm;
use reprise_model::{BLOCK_TOKENS, LoadOptions, MemoryNeed, ModelError, memory_needed};

use crate::{EngineConfig, Speculation};

/// llama.cpp pads contexts to this many tokens.
const CONTEXT_PADDING: u32 = 256;
/// Slots when their number is left to the engine.
const AUTO_SLOTS: u32 = 4;
/// Block count that stands for "no limit": more than any machine's memory, small enough for exact arithmetic.
const UNLIMITED_BLOCKS: u32 = 1 << 20;
/// What an image holds beside its cells: for each token its id and frame, and its head.
const IMAGE_TOKEN: u64 = 64;
const IMAGE_HEAD: u64 = 1 << 20;

/// Sizes as an operator asks for them; llama-server's flags, and by default their defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizing {
    /// Slots (`-np`); -1 is 4 slots that share one pool.
    pub slots: i32,
    /// Tokens over all slots (`-c`); 0 takes the model's training context.
    pub context: u32,
    /// Slots share one pool (`-kvu`); `None` only where `slots` is -1.
    pub unified: Option<bool>,
    /// Most tokens of one slot in a shared pool (`--kv-unified-per-slot`); 0 is no limit.
    pub context_per_slot: u32,
    /// Tokens between two progress reports (`-b`).
    pub batch: u32,
    /// Tokens of one forward pass (`-ub`); at most `batch` are taken.
    pub micro_batch: u32,
    /// Prompts may enter a pass that holds running generations (`-cb`).
    pub continuous_batching: bool,
    /// Drop the oldest tokens when a context is full, instead of stopping (`--context-shift`).
    pub context_shift: bool,
    /// Speculative decoding (`--spec-type`).
    pub speculation: Option<Speculation>,
    /// Share of a prompt that a slot must hold to be preferred (`-sps`), 0 to 1; 0 is off.
    pub similarity: f32,
    /// MiB of KV kept for prompts that left their slot (`--cache-ram`); 0 is off, -1 is no limit.
    pub cache_ram: i64,
    /// Idle slots are published to the prompt cache (`--cache-idle-slots`).
    pub cache_idle_slots: bool,
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            slots: -1,
            context: 0,
            unified: None,
            context_per_slot: 0,
            batch: 2048,
            micro_batch: 512,
            continuous_batching: true,
            context_shift: false,
            speculation: None,
            similarity: 0.1,
            cache_ram: 8192,
            cache_idle_slots: true,
        }
    }
}

/// Sizes that no engine could run with.
#[derive(Debug, thiserror::Error)]
pub enum SizingError {
    /// The number of slots.
    #[error("the number of slots (-np) must be -1 or at least 1, not {0}")]
    Slots(i32),
    /// A batch of nothing.
    #[error("the batch sizes (-b, -ub) must be at least 1")]
    Batch,
    /// A draft of nothing or after nothing, or one that is longer than any is.
    #[error("the sizes of speculative decoding (--spec-ngram-simple-size-*) must be between 1 and 1024")]
    Speculation,
    /// The similarity.
    #[error("the similarity of prompts (-sps) must be between 0 and 1, not {0}")]
    Similarity(f32),
    /// The prompt cache.
    #[error("the prompt cache (--cache-ram) must be -1 (no limit), 0 (off) or a number of MiB, not {0}")]
    CacheRam(i64),
    /// More tokens than can be counted.
    #[error("{slots} slots of {tokens} tokens are too large; ask for less context (-c) or fewer slots (-np)")]
    TooLarge {
        /// Slots.
        slots: u32,
        /// Tokens of each.
        tokens: u32,
    },
    /// The model's file does not say what is needed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Sizes for a certain model, before it is loaded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The engine's configuration, with all of the prompt cache that was asked for.
    pub config: EngineConfig,
    /// Bytes that the model takes with its slots, without the prompt cache.
    pub need: MemoryNeed,
    /// The context that the model was trained on, tokens.
    pub train: u32,
    /// Bytes of one KV block.
    block_bytes: u64,
}

impl Sizing {
    /// Sizes for the model of a file, of whose load `options` takes the sizes of its passes. After it has looked at
    /// [`Plan::need`], the host asks [`Plan::settle`] for the configuration.
    ///
    /// # Errors
    /// [`SizingError`]
    pub fn plan(&self, gguf: &Gguf, options: &mut LoadOptions) -> Result<Plan, SizingError> {
        let architecture = gguf.metadata.architecture().map_err(ModelError::from)?;
        let train = gguf.metadata.u32(&format!("{architecture}.context_length")).map_err(ModelError::from)?;
        options.blocks = 1;
        let block_bytes = memory_needed(gguf, options)?.kv;
        let config = self.config(train, block_bytes)?;
        options.batch = config.micro_batch as usize;
        options.logit_rows = config.logit_rows() as usize;
        options.blocks = EngineConfig { ram_blocks: 0, ..config.clone() }.kv_blocks();
        let need = memory_needed(gguf, options)?;
        Ok(Plan { config, need, train, block_bytes })
    }

    /// The engine's configuration for a model that was trained on `train` tokens and whose KV takes `block_bytes` a block,
    /// as llama-server computes it.
    ///
    /// # Errors
    /// [`SizingError`]
    pub fn config(&self, train: u32, block_bytes: u64) -> Result<EngineConfig, SizingError> {
        let (slots, unified) = self.slots()?;
        let (slot_context, pool_tokens) = self.context_sizes(slots, unified, train)?;
        if self.batch == 0 || self.micro_batch == 0 {
            return Err(SizingError::Batch);
        }
        let sizes =
            |rule: Speculation| [rule.lookup, rule.draft].iter().all(|size| (1..=1024).contains(size));
        if !self.speculation.is_none_or(sizes) {
            return Err(SizingError::Speculation);
        }
        Ok(EngineConfig {
            slots,
            slot_context,
            pool_tokens,
            unified,
            similarity: self.similarity()?,
            batch: self.batch,
            micro_batch: self.micro_batch.min(self.batch),
            continuous_batching: self.continuous_batching,
            context_shift: self.context_shift,
            speculation: self.speculation,
            ram_blocks: self.ram_blocks(block_bytes)?,
            cache_idle_slots: self.cache_idle_slots,
            max_image: (u64::from(slot_context) + BLOCK_TOKENS as u64)
                .saturating_mul(block_bytes / BLOCK_TOKENS as u64 + IMAGE_TOKEN)
                .saturating_add(IMAGE_HEAD),
            state_key: None,
        })
    }

    fn slots(&self) -> Result<(u32, bool), SizingError> {
        match self.slots {
            -1 => Ok((AUTO_SLOTS, self.unified.unwrap_or(true))),
            n if n > 0 => Ok((n.unsigned_abs(), self.unified.unwrap_or(false))),
            n => Err(SizingError::Slots(n)),
        }
    }

    /// `(context of one slot, tokens of all slots)`.
    fn context_sizes(&self, slots: u32, unified: bool, train: u32) -> Result<(u32, u32), SizingError> {
        let all = |tokens: u32| slots.checked_mul(tokens).ok_or(SizingError::TooLarge { slots, tokens });
        let pad = |tokens: u32| {
            let padded = tokens.max(1).checked_next_multiple_of(CONTEXT_PADDING);
            padded.ok_or(SizingError::TooLarge { slots, tokens })
        };
        let cap = if self.context_per_slot > 0 { self.context_per_slot } else { u32::MAX };
        let total = pad(match self.context {
            0 if self.context_per_slot > 0 => all(self.context_per_slot)?,
            0 if unified => train,
            0 => all(train)?,
            n => n,
        })?;
        let sequence = if unified { total } else { pad(total / slots)? };
        let pool = if unified { total } else { all(sequence)? };
        Ok((sequence.min(cap).min(train), pool))
    }

    fn similarity(&self) -> Result<Ppm, SizingError> {
        if !(0.0..=1.0).contains(&self.similarity) {
            return Err(SizingError::Similarity(self.similarity));
        }
        // Rounded: 0.1f32 must become exactly one tenth.
        Ok(Ppm((f64::from(self.similarity) * 1e6).round() as u32))
    }

    fn ram_blocks(&self, block_bytes: u64) -> Result<u32, SizingError> {
        match self.cache_ram {
            -1 => Ok(UNLIMITED_BLOCKS),
            0 => Ok(0),
            n if n > 0 => {
                let blocks = n.unsigned_abs().saturating_mul(1 << 20) / block_bytes.max(1);
                Ok(u32::try_from(blocks).unwrap_or(UNLIMITED_BLOCKS).min(UNLIMITED_BLOCKS))
            }
            n => Err(SizingError::CacheRam(n)),
        }
    }
}

impl Plan {
    /// The configuration with a prompt cache that leaves half of the `available` bytes beside the model to the rest of
    /// the machine; its blocks are entered into `options`. Without a number the whole cache stays.
    #[must_use]
    pub fn settle(self, available: Option<u64>, options: &mut LoadOptions) -> EngineConfig {
        let Self { mut config, need, block_bytes, .. } = self;
        if let Some(available) = available {
            let blocks = available.saturating_sub(need.total()) / 2 / block_bytes.max(1);
            let affordable = u32::try_from(blocks).unwrap_or(u32::MAX);
            if affordable < config.ram_blocks {
                config.ram_blocks = affordable;
                tracing::info!(
                    "the prompt cache is limited to {} tokens, half of the memory that is free beside the model",
                    u64::from(affordable) * BLOCK_TOKENS as u64
                );
            }
        }
        options.blocks = config.kv_blocks();
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizing(slots: i32, context: u32) -> Sizing {
        Sizing { slots, context, ..Sizing::default() }
    }

    fn speculating(rule: Speculation) -> Sizing {
        Sizing { speculation: Some(rule), ..sizing(2, 512) }
    }

    #[test]
    fn drafts_have_logits_too() {
        let rows = |sizing: Sizing| sizing.config(2048, 1 << 20).unwrap().logit_rows();
        assert_eq!(rows(sizing(2, 512)), 2);
        assert_eq!(rows(speculating(Speculation::default())), 50);
        assert_eq!(rows(Sizing { micro_batch: 16, ..speculating(Speculation::default()) }), 18);
    }

    /// `(slots, context of one, pool, unified)` for a training context of 2048.
    fn sizes(sizing: &Sizing) -> (u32, u32, u32, bool) {
        let c = sizing.config(2048, 1 << 20).unwrap();
        (c.slots, c.slot_context, c.pool_tokens, c.unified)
    }

    #[test]
    fn context_of_a_slot_is_llama_servers() {
        assert_eq!(sizes(&Sizing::default()), (4, 2048, 2048, true));
        assert_eq!(sizes(&Sizing { unified: Some(false), ..Sizing::default() }), (4, 2048, 8192, false));
        assert_eq!(sizes(&sizing(2, 512)), (2, 256, 512, false));
        assert_eq!(sizes(&sizing(1, 512)), (1, 512, 512, false));
        assert_eq!(sizes(&sizing(4, 300)), (4, 256, 1024, false));
        assert_eq!(sizes(&Sizing { unified: Some(true), ..sizing(2, 512) }), (2, 512, 512, true));
        assert_eq!(sizes(&sizing(2, 8192)), (2, 2048, 8192, false));
        assert_eq!(sizes(&Sizing { context_per_slot: 300, ..sizing(3, 0) }), (3, 300, 1536, false));
        assert_eq!(sizes(&sizing(2, 0)), (2, 2048, 4096, false));
        assert_eq!(sizes(&sizing(3, 1000)), (3, 512, 1536, false));
    }

    #[test]
    fn nonsense_is_refused() {
        for (sizing, what) in [
            (sizing(0, 0), "not 0"),
            (sizing(-7, 0), "not -7"),
            (Sizing { similarity: 2.0, ..Sizing::default() }, "not 2"),
            (Sizing { similarity: f32::NAN, ..Sizing::default() }, "not NaN"),
            (Sizing { cache_ram: -5, ..Sizing::default() }, "not -5"),
            (Sizing { batch: 0, ..Sizing::default() }, "at least 1"),
            (Sizing { micro_batch: 0, ..Sizing::default() }, "at least 1"),
            (sizing(4, u32::MAX), "too large"),
            (speculating(Speculation { lookup: 0, ..Speculation::default() }), "between 1 and 1024"),
            (speculating(Speculation { draft: 1025, ..Speculation::default() }), "between 1 and 1024"),
            (Sizing { context_per_slot: u32::MAX, ..sizing(4, 0) }, "too large"),
        ] {
            let error = sizing.config(2048, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn the_prompt_cache_gives_way_to_the_machine() {
        let settled = |cache_ram, available| {
            let sizing = Sizing { cache_ram, ..sizing(1, 256) };
            let config = sizing.config(2048, 1 << 20).unwrap();
            let need = MemoryNeed { weights: 1 << 20, kv: 2 << 20, activations: 1 << 20 };
            let plan = Plan { config, need, train: 2048, block_bytes: 1 << 20 };
            let mut options = LoadOptions::default();
            let config = plan.settle(available, &mut options);
            assert_eq!(options.blocks, config.kv_blocks());
            config.ram_blocks
        };
        assert_eq!(settled(100, None), 100);
        assert_eq!(settled(100, Some(1 << 30)), 100);
        assert_eq!(settled(100, Some(64 << 20)), 30);
        assert_eq!(settled(100, Some(1 << 20)), 0);
        assert_eq!(settled(0, Some(1 << 30)), 0);
    }
}
