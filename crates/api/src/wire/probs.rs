//! `completion_probabilities` and OpenAI's `logprobs`.

use reprise_engine::sample::{TokenProb, TokenProbs};
use serde::Serialize;

use super::number::Widened;

/// One sampled token with its candidates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sampled {
    #[serde(flatten)]
    chosen: Candidate,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Candidate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_probs: Option<Vec<Candidate>>,
}

/// OpenAI's wrapping.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Logprobs {
    content: Vec<Sampled>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Candidate {
    id: u32,
    token: String,
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprob: Option<Widened>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prob: Option<Widened>,
}

impl Sampled {
    /// A token's probabilities; `post_sampling` says whether they are probabilities or their logarithms.
    pub(crate) fn new(probs: &TokenProbs, post_sampling: bool) -> Self {
        let chosen = Candidate::new(&probs.chosen, post_sampling);
        let top: Vec<_> =
            probs.top.iter().map(|candidate| Candidate::new(candidate, post_sampling)).collect();
        if post_sampling {
            Self { chosen, top_logprobs: None, top_probs: Some(top) }
        } else {
            Self { chosen, top_logprobs: Some(top), top_probs: None }
        }
    }

    /// The probabilities of several tokens.
    pub(crate) fn all(probs: &[TokenProbs], post_sampling: bool) -> Vec<Self> {
        probs.iter().map(|probs| Self::new(probs, post_sampling)).collect()
    }
}

impl Logprobs {
    /// `None` when there are none: OpenAI has null or no field then.
    pub(crate) fn new(probs: &[TokenProbs], post_sampling: bool) -> Option<Self> {
        (!probs.is_empty()).then(|| Self { content: Sampled::all(probs, post_sampling) })
    }
}

impl Candidate {
    fn new(candidate: &TokenProb, post_sampling: bool) -> Self {
        // A logarithm of zero must stay a number.
        let value = Widened(candidate.value.max(f32::MIN));
        Self {
            id: candidate.id.0,
            token: text(&candidate.bytes),
            bytes: candidate.bytes.clone(),
            logprob: (!post_sampling).then_some(value),
            prob: post_sampling.then_some(value),
        }
    }
}

/// The text of a token: what is invalid is replaced, a character that only begins at the end is left out.
fn text(bytes: &[u8]) -> String {
    let begun = bytes.utf8_chunks().last().map_or(0, |chunk| {
        // `from_utf8` tells a cut-off end (no error length) from a wrong byte.
        match std::str::from_utf8(chunk.invalid()) {
            Err(error) if error.error_len().is_none() => chunk.invalid().len(),
            _ => 0,
        }
    });
    String::from_utf8_lossy(&bytes[..bytes.len() - begun]).into_owned()
}

#[cfg(test)]
mod tests {
    use reprise_gguf::TokenId;

    use super::*;

    fn candidate(bytes: &[u8], value: f32) -> TokenProb {
        TokenProb { id: TokenId(7), bytes: bytes.to_vec(), value }
    }

    #[test]
    fn logarithms_and_probabilities_have_their_own_names() {
        let probs =
            TokenProbs { chosen: candidate(b"br", -2.0), top: vec![candidate(b"br", f32::NEG_INFINITY)] };
        assert_eq!(
            serde_json::to_string(&Sampled::new(&probs, false)).unwrap(),
            r#"{"id":7,"token":"br","bytes":[98,114],"logprob":-2.0,"top_logprobs":[{"id":7,"token":"br","bytes":[98,114],"logprob":-3.4028234663852886e+38}]}"#
        );
        let probs = TokenProbs { chosen: candidate(b"a", 0.5), top: Vec::new() };
        assert_eq!(
            serde_json::to_string(&Sampled::new(&probs, true)).unwrap(),
            r#"{"id":7,"token":"a","bytes":[97],"prob":0.5,"top_probs":[]}"#
        );
    }

    #[test]
    fn half_characters_are_left_out_and_wrong_bytes_replaced() {
        assert_eq!(text("a☃".as_bytes()), "a☃");
        assert_eq!(text(b"a\xe2\x98"), "a");
        assert_eq!(text(b"\xff"), "\u{FFFD}");
        assert_eq!(text(b""), "");
    }
}
