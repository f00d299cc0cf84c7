//! Answers of llama-server's own endpoints: `/completion`, `/infill`.

use reprise_engine::{EngineHandle, Finished, Placed, Progress, Step, StopReason};
use serde::Serialize;
use serde_json::{Map, Value};

use super::options::Look;
use super::probs::Sampled;
use super::settings::Settings;
use super::timings::{ProgressJson, TimingsJson};

/// A chunk of a stream before the last one. `id_slot` is -1 in it, as in the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Partial<'a> {
    index: usize,
    content: &'a str,
    tokens: [u32; 1],
    stop: bool,
    id_slot: i32,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_progress: Option<ProgressJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<[Sampled; 1]>,
}

/// The whole answer, or the last chunk of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Last<'a> {
    index: usize,
    content: &'a str,
    tokens: Vec<u32>,
    id_slot: u32,
    stop: bool,
    model: &'a str,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    generation_settings: Settings,
    prompt: String,
    has_new_line: bool,
    truncated: bool,
    stop_type: &'static str,
    stopping_word: &'a str,
    tokens_cached: u32,
    timings: TimingsJson,
    placement: Placement,
    /// The seed that was used; Reprise's own field, to repeat a text that was asked for without a seed.
    seed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Sampled>>,
}

/// Which slot a request got, and why. Reprise's own field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Placement {
    slot: u32,
    reason: String,
    cached: u32,
    tiers: Tiers,
    evicted: u32,
}

/// Where the cached tokens lay: the parts add up to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Tiers {
    /// In the slot itself.
    slot: u32,
    /// In memory, beyond the slot.
    ram: u32,
    /// In the persistent store.
    disk: u32,
}

impl<'a> Partial<'a> {
    /// A chunk with a token.
    pub(crate) fn step(index: usize, step: &'a Step, look: &Look) -> Self {
        Self {
            index,
            content: &step.text,
            tokens: [step.token.0],
            stop: false,
            id_slot: -1,
            tokens_predicted: step.predicted,
            tokens_evaluated: step.prompt_tokens,
            timings: look.timings_per_token.then(|| TimingsJson::from(&step.timings)),
            prompt_progress: None,
            completion_probabilities: step
                .probs
                .as_ref()
                .map(|probs| [Sampled::new(probs, look.post_sampling)]),
        }
    }
}

impl Partial<'static> {
    /// A chunk that only tells how far the prompt is.
    pub(crate) fn progress(index: usize, progress: &Progress, look: &Look) -> Self {
        Self {
            index,
            content: "",
            tokens: [0],
            stop: false,
            id_slot: -1,
            tokens_predicted: 0,
            tokens_evaluated: progress.total,
            timings: look.timings_per_token.then(|| TimingsJson::from(progress)),
            prompt_progress: Some(ProgressJson::from(progress)),
            completion_probabilities: None,
        }
    }
}

impl<'a> Last<'a> {
    /// The end of one generation. In a stream the text has already been sent, except what was held back.
    pub(crate) fn new(
        index: usize,
        finished: &'a Finished,
        look: &Look,
        model: &'a str,
        engine: &EngineHandle,
    ) -> Self {
        let probabilities = || Sampled::all(&finished.probs, look.post_sampling);
        let tokens = || finished.tokens.iter().map(|token| token.0).collect();
        Self {
            index,
            content: if look.stream { &finished.tail } else { &finished.text },
            tokens: if look.return_tokens && !look.stream { tokens() } else { Vec::new() },
            id_slot: finished.slot,
            stop: true,
            model,
            tokens_predicted: finished.timings.predicted,
            tokens_evaluated: finished.prompt_tokens,
            generation_settings: Settings::whole(&finished.request, engine),
            prompt: engine.text().tokenizer.prompt_text(&finished.request.prompt),
            has_new_line: finished.has_new_line,
            truncated: finished.truncated,
            stop_type: stop_type(&finished.stop),
            stopping_word: match &finished.stop {
                StopReason::Word(word) => word,
                _ => "",
            },
            tokens_cached: finished.slot_tokens,
            timings: TimingsJson::from(&finished.timings),
            placement: Placement::from(&finished.placed),
            seed: finished.seed,
            completion_probabilities: (!look.stream && !finished.probs.is_empty()).then(probabilities),
        }
    }

    /// As JSON, cut down to `response_fields` when there are any.
    pub(crate) fn into_value(self, response_fields: &[String]) -> Value {
        // Serialising a wire type does not fail; see `json_response`.
        let value = serde_json::to_value(self).unwrap_or_default();
        if response_fields.is_empty() { value } else { pick(&value, response_fields) }
    }
}

impl From<&Placed> for Placement {
    fn from(placed: &Placed) -> Self {
        let Placed { slot, copy: _, reason, cached, own, stored, evicted } = placed;
        let tiers = Tiers { slot: *own, ram: cached - own - stored, disk: *stored };
        Self { slot: *slot, reason: reason.clone(), cached: *cached, tiers, evicted: *evicted }
    }
}

fn stop_type(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::EmptyPrompt => "none",
        StopReason::EndOfGeneration => "eos",
        StopReason::Word(_) => "word",
        StopReason::Limit => "limit",
    }
}

/// The fields at the given paths (`a/b/c`), each under its path as key; what is not there is left out.
fn pick(value: &Value, paths: &[String]) -> Value {
    let at = |path: &String| {
        let found = path.split('/').try_fold(value, |value, key| value.as_object()?.get(key))?;
        Some((path.clone(), found.clone()))
    };
    Value::Object(paths.iter().filter_map(at).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn picked_fields_keep_their_path_as_key() {
        let value = json!({"content": "br", "timings": {"cache_n": 6}, "list": [1]});
        let paths = ["content", "timings/cache_n", "nope", "list/0", "content/x"].map(String::from);
        assert_eq!(pick(&value, &paths), json!({"content": "br", "timings/cache_n": 6}));
    }
}
