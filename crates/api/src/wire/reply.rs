//! One answer in one of three shapes: llama-server's own, OpenAI's completions, OpenAI's chat.

use reprise_engine::{EngineHandle, Finished, Progress, Step};
use serde::Serialize;
use serde_json::Value;

use super::native::{Last, Partial, Placement};
use super::oai::{ChatChoice, Chunk, Delta, Envelope, Extra, Message, Said, TextChoice, finish_reason};
use super::options::Look;
use super::probs::Logprobs;
use super::timings::{ProgressJson, TimingsJson, Totals};
use crate::ApiConfig;
use crate::sse::Outbox;

/// The endpoint's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/completion`, `/infill`.
    Native,
    /// `/v1/completions`.
    OpenAi,
    /// `/v1/chat/completions`.
    Chat,
}

/// Turns what happens in the engine into JSON.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    shape: Shape,
    look: Look,
    engine: EngineHandle,
    id: String,
    model: String,
    build: String,
    now: fn() -> u64,
}

impl Reply {
    /// An answer with an id of its own.
    pub(crate) fn new(shape: Shape, look: Look, engine: EngineHandle, config: &ApiConfig) -> Self {
        Self {
            shape,
            look,
            engine,
            id: completion_id(config.entropy),
            model: config.model.id().to_owned(),
            build: config.build.clone(),
            now: config.now,
        }
    }

    /// A part of the prompt was processed.
    pub(crate) fn progress(&self, index: usize, progress: &Progress, out: &mut Outbox) {
        let extra = Extra {
            timings: self.look.timings_per_token.then(|| TimingsJson::from(progress)),
            prompt_progress: Some(ProgressJson::from(progress)),
            verbose: self.verbose(|| Partial::progress(index, progress, &self.look)),
            ..Extra::default()
        };
        match self.shape {
            Shape::Native => out.send(&Partial::progress(index, progress, &self.look)),
            Shape::OpenAi => out.send(&self.chunk(vec![text_choice(index, "")], extra)),
            Shape::Chat => out.send(&self.chunk(vec![delta(index, Delta::Role)], extra)),
        }
    }

    /// A token was sampled.
    pub(crate) fn step(&self, index: usize, step: &Step, out: &mut Outbox) {
        let logprobs = || Logprobs::new(step.probs.as_slice(), self.look.post_sampling);
        let extra = || Extra {
            timings: self.look.timings_per_token.then(|| TimingsJson::from(&step.timings)),
            verbose: self.verbose(|| Partial::step(index, step, &self.look)),
            ..Extra::default()
        };
        match self.shape {
            Shape::Native => out.send(&Partial::step(index, step, &self.look)),
            Shape::OpenAi => {
                let choice = TextChoice { logprobs: logprobs(), ..text_choice(index, &step.text) };
                out.send(&self.chunk(vec![choice], extra()));
            }
            Shape::Chat => {
                // What goes with the token stands on its last chunk.
                let speaks = !step.text.is_empty();
                let content = ChatChoice { logprobs: logprobs(), ..delta(index, Delta::Content(&step.text)) };
                if step.predicted == 1 && speaks {
                    out.send(&self.chunk(vec![delta(index, Delta::Role)], Extra::default()));
                } else if step.predicted == 1 {
                    let opening = ChatChoice { logprobs: logprobs(), ..delta(index, Delta::Role) };
                    out.send(&self.chunk(vec![opening], extra()));
                }
                if speaks {
                    out.send(&self.chunk(vec![content], extra()));
                }
            }
        }
    }

    /// One generation of a stream ended. `totals` cover all that have ended, this one counted.
    pub(crate) fn finished(&self, index: usize, finished: &Finished, totals: &Totals, out: &mut Outbox) {
        let timings = Some(TimingsJson::from(&finished.timings));
        let placement = || Some(Placement::from(&finished.placed));
        match self.shape {
            Shape::Native => out.send(&self.last(index, finished).into_value(&self.look.response_fields)),
            Shape::OpenAi => {
                let reason = Some(finish_reason(finished));
                let choice = TextChoice { finish_reason: reason, ..text_choice(index, &finished.tail) };
                let verbose = self.verbose(|| self.last(index, finished));
                let (usage, placement) = (Some(totals.usage()), placement());
                let extra = Extra { usage, timings, placement, verbose, ..Extra::default() };
                out.send(&self.chunk(vec![choice], extra));
            }
            Shape::Chat => {
                if !finished.tail.is_empty() {
                    let content = delta(index, Delta::Content(&finished.tail));
                    out.send(&self.chunk(vec![content], Extra::default()));
                }
                let end =
                    ChatChoice { finish_reason: Some(finish_reason(finished)), ..delta(index, Delta::End) };
                let timings = timings.filter(|_| !self.look.include_usage);
                let verbose = self.verbose(|| self.last(index, finished));
                let extra = Extra { timings, placement: placement(), verbose, ..Extra::default() };
                out.send(&self.chunk(vec![end], extra));
            }
        }
    }

    /// All generations of a stream ended.
    ///
    /// Answers whether `[DONE]` follows.
    pub(crate) fn end(&self, totals: &Totals, out: &mut Outbox) -> bool {
        if self.shape == Shape::Chat && self.look.include_usage {
            let timings = Some(TimingsJson::from(totals));
            let extra = Extra { usage: Some(totals.usage()), timings, ..Extra::default() };
            out.send(&self.chunk(Vec::<ChatChoice<'_>>::new(), extra));
        }
        self.shape != Shape::Native
    }

    /// The answer to a request that is no stream: all generations, by index.
    pub(crate) fn whole<'a>(&'a self, results: &'a [Finished]) -> Value {
        let totals = Totals::of(results);
        let verbose = results.first().and_then(|first| self.verbose(|| self.last(0, first)));
        let (usage, timings) = (Some(totals.usage()), Some(TimingsJson::from(&totals)));
        let placement = results.first().map(|first| Placement::from(&first.placed));
        let extra = Extra { usage, timings, placement, verbose, ..Extra::default() };
        let logprobs = |finished: &Finished| Logprobs::new(&finished.probs, self.look.post_sampling);
        let value = match self.shape {
            Shape::Native => return self.whole_native(results),
            Shape::OpenAi => {
                let choice = |(index, finished): (usize, &'a Finished)| TextChoice {
                    logprobs: logprobs(finished),
                    finish_reason: Some(finish_reason(finished)),
                    ..text_choice(index, &finished.text)
                };
                serde_json::to_value(self.chunk(results.iter().enumerate().map(choice).collect(), extra))
            }
            Shape::Chat => {
                let choice = |(index, finished): (usize, &'a Finished)| ChatChoice {
                    finish_reason: Some(finish_reason(finished)),
                    index,
                    said: Said::Message(Message { role: "assistant", content: &finished.text }),
                    logprobs: logprobs(finished),
                };
                let choices = results.iter().enumerate().map(choice).collect();
                serde_json::to_value(Chunk { choices, envelope: self.envelope("chat.completion"), extra })
            }
        };
        // Serialising a wire type does not fail; see `json_response`.
        value.unwrap_or_default()
    }

    /// One result is an object, several are an array.
    fn whole_native(&self, results: &[Finished]) -> Value {
        let value = |(index, finished)| self.last(index, finished).into_value(&self.look.response_fields);
        let mut values: Vec<_> = results.iter().enumerate().map(value).collect();
        match (values.len(), values.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                values.extend(last);
                Value::Array(values)
            }
        }
    }

    fn last<'a>(&'a self, index: usize, finished: &'a Finished) -> Last<'a> {
        Last::new(index, finished, &self.look, &self.model, &self.engine)
    }

    fn verbose<T: Serialize>(&self, native: impl FnOnce() -> T) -> Option<Value> {
        let asked = self.look.verbose && self.shape != Shape::Native;
        asked.then(|| serde_json::to_value(native()).unwrap_or_default())
    }

    fn chunk<C>(&self, choices: Vec<C>, extra: Extra) -> Chunk<'_, C> {
        let object = if self.shape == Shape::Chat { "chat.completion.chunk" } else { "text_completion" };
        Chunk { choices, envelope: self.envelope(object), extra }
    }

    fn envelope(&self, object: &'static str) -> Envelope<'_> {
        let Self { model, build, id, .. } = self;
        Envelope { created: (self.now)(), model, system_fingerprint: build, object, id }
    }
}

fn text_choice(index: usize, text: &str) -> TextChoice<'_> {
    TextChoice { text, index, logprobs: None, finish_reason: None }
}

fn delta(index: usize, delta: Delta<'_>) -> ChatChoice<'_> {
    ChatChoice { finish_reason: None, index, said: Said::Delta(delta), logprobs: None }
}

/// `chatcmpl-` and 32 letters or digits.
fn completion_id(entropy: fn() -> u64) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::from("chatcmpl-");
    for _ in 0..4 {
        // Eight base-62 digits take under 48 of the 64 bits.
        let mut bits = entropy();
        for _ in 0..8 {
            id.push(char::from(ALPHABET[(bits % 62) as usize]));
            bits /= 62;
        }
    }
    id
}
