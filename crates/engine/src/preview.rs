//! What would happen to a request, without doing it.

use reprise_kv::Tenant;
use reprise_model::Forward;

use crate::engine::Engine;
use crate::{BlockStore, Clock, EngineError, Generate, Placed, SlotStore};

/// Where a request would run if it came now; see [`crate::EngineHandle::plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The slot and what it would give; `None` when the request would have to wait.
    pub placed: Option<Placed>,
    /// What the prompt would cost whom, were all in memory that it needs of the store: tokens, and whose they are, in an operator's words.
    pub evicted: Vec<(u32, String)>,
    /// Idle slots that would be emptied, for the pool's sake.
    pub emptied: Vec<u32>,
}

impl<F: Forward, S: SlotStore, C: Clock, B: BlockStore> Engine<F, S, C, B> {
    pub(crate) fn preview(&self, tenant: Tenant, generate: &Generate) -> Result<Preview, EngineError> {
        self.check(generate)?;
        let prompt_tokens = u32::try_from(generate.prompt.len()).unwrap_or(u32::MAX);
        let none = Preview { prompt_tokens, placed: None, evicted: Vec::new(), emptied: Vec::new() };
        let Some((placement, _)) = self.place(tenant, generate) else { return Ok(none) };
        let fetched = if generate.cache_prompt { self.would_fetch(tenant, &generate.prompt) } else { 0 };
        let cached = placement.reused.max(fetched);
        let placed = Placed {
            slot: placement.slot.0,
            copy: 0,
            reason: placement.reason.to_string(),
            cached,
            own: placement.own,
            stored: cached - placement.reused,
            evicted: placement.evicted_tokens(),
        };
        let evicted = placement.evicted.iter().map(|loss| (loss.tokens, loss.owner.to_string())).collect();
        let emptied = placement.purged.iter().map(|slot| slot.0).collect();
        Ok(Preview { prompt_tokens, placed: Some(placed), evicted, emptied })
    }
}
