//! `GET /slots` and the answers to slot actions.

use reprise_engine::{EngineHandle, Preview, SlotFile, SlotSnapshot, SlotTask};
use serde::Serialize;

use super::native::Placement;
use super::settings::Settings;
use super::timings::milliseconds;
use crate::FileName;

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Slot {
    id: u32,
    n_ctx: u32,
    speculative: bool,
    is_processing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_task: Option<u64>,
    /// All tokens in the slot, generated ones too. Also shown for a slot that was restored and never ran a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<u32>,
    #[serde(flatten)]
    task: Option<Task>,
    #[serde(flatten)]
    texts: Option<Texts>,
}

/// The running or the last request of a slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Task {
    n_prompt_tokens_processed: u32,
    n_prompt_tokens_cache: u32,
    params: Settings,
    next_token: [NextToken; 1],
    placement: Account,
}

/// Where the tokens of a slot's request came from and what they took; unlike llama-server's counts it stays when the
/// request is over. Reprise's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Account {
    #[serde(flatten)]
    placement: Placement,
    /// Prompt tokens that were evaluated.
    processed: u32,
    /// Tokens that were sampled.
    generated: u32,
    /// From the start of the prompt to its last logits: the first token comes with them.
    prompt_ms: f64,
    /// What evaluating the cached tokens too would have taken.
    saved_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct NextToken {
    has_next_token: bool,
    has_new_line: bool,
    n_remain: i64,
    n_decoded: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Texts {
    prompt: String,
    generated: String,
}

impl Slot {
    /// A slot as it was between two steps; with its texts when `debug` is on.
    pub(crate) fn new(snapshot: &SlotSnapshot, engine: &EngineHandle, debug: bool) -> Self {
        let (task, text) = (snapshot.task.as_ref(), engine.text());
        let settings = |task: &SlotTask| {
            if debug {
                Settings::whole(&task.request, engine)
            } else {
                Settings::brief(&task.request, engine)
            }
        };
        let texts = || Texts {
            prompt: task.map_or_else(
                || snapshot.text.clone(),
                |task| text.tokenizer.prompt_text(&task.request.prompt),
            ),
            generated: task.map(|task| task.generated.clone()).unwrap_or_default(),
        };
        Self {
            id: snapshot.id,
            n_ctx: snapshot.context,
            speculative: engine.config().speculation.is_some(),
            is_processing: snapshot.processing,
            id_task: task.map(|task| task.id),
            n_prompt_tokens: (task.is_some() || snapshot.tokens > 0).then_some(snapshot.tokens),
            task: task.map(|task| Task {
                n_prompt_tokens_processed: task.processed,
                n_prompt_tokens_cache: task.cached,
                params: settings(task),
                next_token: [NextToken {
                    has_next_token: task.has_next_token,
                    has_new_line: task.has_new_line,
                    n_remain: task.remaining.map_or(-1, i64::from),
                    n_decoded: task.decoded,
                }],
                placement: Account {
                    placement: Placement::from(&task.placed),
                    processed: task.timings.prompt,
                    generated: task.timings.predicted,
                    prompt_ms: milliseconds(task.timings.prompt_time),
                    saved_ms: milliseconds(task.saved_time),
                },
            }),
            texts: (debug && (task.is_some() || snapshot.tokens > 0)).then(texts),
        }
    }
}

/// What would happen to a request. Reprise's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    n_prompt_tokens: u32,
    /// Prompt tokens that would be evaluated.
    n_prompt_tokens_processed: u32,
    /// No slot could take it now.
    deferred: bool,
    /// `null` when it would wait.
    placement: Option<Placement>,
    /// What the prompt would cost.
    evicted: Vec<Loss>,
    /// Idle slots that would be emptied.
    emptied: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Loss {
    tokens: u32,
    /// `slot 1`, `the prompt cache`.
    of: String,
}

impl From<&Preview> for Plan {
    fn from(preview: &Preview) -> Self {
        let Preview { prompt_tokens, placed, evicted, emptied } = preview;
        Self {
            n_prompt_tokens: *prompt_tokens,
            n_prompt_tokens_processed: prompt_tokens - placed.as_ref().map_or(0, |placed| placed.cached),
            deferred: placed.is_none(),
            placement: placed.as_ref().map(Placement::from),
            evicted: evicted.iter().map(|(tokens, of)| Loss { tokens: *tokens, of: of.clone() }).collect(),
            emptied: emptied.clone(),
        }
    }
}

/// A slot was written to a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Saved {
    id_slot: i32,
    filename: String,
    n_saved: u32,
    n_written: u64,
    timings: SaveTime,
}

/// A slot was read from a file, or from the body of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Restored {
    id_slot: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    n_restored: u32,
    n_read: u64,
    timings: RestoreTime,
}

/// A slot was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Erased {
    pub(crate) id_slot: i32,
    pub(crate) n_erased: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct SaveTime {
    save_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct RestoreTime {
    restore_ms: f64,
}

impl Saved {
    /// What was written, under the id that was asked for.
    pub(crate) fn new(id_slot: i32, name: &FileName, file: SlotFile) -> Self {
        let SlotFile { tokens, bytes, time } = file;
        let timings = SaveTime { save_ms: milliseconds(time) };
        Self { id_slot, filename: name.to_string(), n_saved: tokens, n_written: bytes, timings }
    }
}

impl Restored {
    /// What was read, under the id that was asked for; from the file `name`, if it was one.
    pub(crate) fn new(id_slot: i32, name: Option<&FileName>, file: SlotFile) -> Self {
        let SlotFile { tokens, bytes, time } = file;
        let timings = RestoreTime { restore_ms: milliseconds(time) };
        Self { id_slot, filename: name.map(FileName::to_string), n_restored: tokens, n_read: bytes, timings }
    }
}
