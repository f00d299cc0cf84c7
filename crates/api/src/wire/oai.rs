//! OpenAI's answers: `/v1/completions` and `/v1/chat/completions`.

use reprise_engine::{Finished, StopReason};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::native::Placement;
use super::probs::Logprobs;
use super::timings::{ProgressJson, TimingsJson, Usage};

/// What all chunks of an answer share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) system_fingerprint: &'a str,
    pub(crate) object: &'static str,
    pub(crate) id: &'a str,
}

/// An answer or a chunk of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Chunk<'a, C> {
    pub(crate) choices: Vec<C>,
    #[serde(flatten)]
    pub(crate) envelope: Envelope<'a>,
    #[serde(flatten)]
    pub(crate) extra: Extra,
}

/// Fields that only some chunks have.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Extra {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timings: Option<TimingsJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_progress: Option<ProgressJson>,
    /// Which slot ran it, and why; of several generations the first one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<Placement>,
    /// The native answer, on request.
    #[serde(rename = "__verbose", skip_serializing_if = "Option::is_none")]
    pub(crate) verbose: Option<Value>,
}

/// A choice of `/v1/completions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TextChoice<'a> {
    pub(crate) text: &'a str,
    pub(crate) index: usize,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: Option<&'static str>,
}

/// A choice of `/v1/chat/completions`: with a message in a whole answer, with a delta in a chunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ChatChoice<'a> {
    pub(crate) finish_reason: Option<&'static str>,
    pub(crate) index: usize,
    #[serde(flatten)]
    pub(crate) said: Said<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<Logprobs>,
}

/// What the assistant said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said<'a> {
    /// Everything.
    Message(Message<'a>),
    /// A part.
    Delta(Delta<'a>),
}

/// The assistant's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: &'a str,
}

/// A part of the assistant's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delta<'a> {
    /// The first chunk: who speaks.
    Role,
    /// Text.
    Content(&'a str),
    /// The last chunk.
    End,
}

impl Serialize for Delta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Opening {
            role: &'static str,
            content: (),
        }
        #[derive(Serialize)]
        struct Text<'a> {
            content: &'a str,
        }
        #[derive(Serialize)]
        struct Nothing {}
        match self {
            Self::Role => Opening { role: "assistant", content: () }.serialize(serializer),
            Self::Content(content) => Text { content }.serialize(serializer),
            Self::End => Nothing {}.serialize(serializer),
        }
    }
}

/// OpenAI's word for why a generation ended.
pub(crate) fn finish_reason(finished: &Finished) -> &'static str {
    match finished.stop {
        StopReason::EndOfGeneration | StopReason::Word(_) => "stop",
        StopReason::EmptyPrompt | StopReason::Limit => "length",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_chunks_look_like_the_reference() {
        let envelope = Envelope {
            created: 1,
            model: "m",
            system_fingerprint: "b",
            object: "chat.completion.chunk",
            id: "i",
        };
        let chunk = |delta| Chunk {
            choices: vec![ChatChoice {
                finish_reason: None,
                index: 0,
                said: Said::Delta(delta),
                logprobs: None,
            }],
            envelope: envelope.clone(),
            extra: Extra::default(),
        };
        let tail =
            r#""created":1,"model":"m","system_fingerprint":"b","object":"chat.completion.chunk","id":"i"}"#;
        for (delta, text) in [
            (Delta::Role, r#"{"role":"assistant","content":null}"#),
            (Delta::Content("x"), r#"{"content":"x"}"#),
            (Delta::End, "{}"),
        ] {
            assert_eq!(
                serde_json::to_string(&chunk(delta)).unwrap(),
                format!(r#"{{"choices":[{{"finish_reason":null,"index":0,"delta":{text}}}],{tail}"#)
            );
        }
    }
}
