//! Stage 10: the text of an answer, and when it ends. The checks and their order are llama-server's.

use std::time::Duration;

use reprise_text::{Detokenizer, StopMatcher};

use crate::{Limits, StopReason};

/// The text generated so far and what of it was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    detokenizer: Detokenizer,
    matcher: StopMatcher,
    /// All text, without the bytes of an unfinished character and without a found stop string.
    text: String,
    /// Bytes of `text` that the matcher has seen.
    matched: usize,
    /// Bytes of `text` that were sent; the matcher holds back the rest.
    sent: usize,
    has_new_line: bool,
    /// Where the last line starts whose indentation counts; zero before there is one.
    line: usize,
}

/// What a token added to an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addition {
    /// Text to send; `None` while a character is unfinished.
    pub(crate) text: Option<String>,
    /// A stop string was completed.
    pub(crate) word: Option<String>,
    /// A line break became visible.
    new_line: bool,
}

/// What a token's checks look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// The token ends a generation.
    pub(crate) end_of_generation: bool,
    /// The slot has no room for another token, and may not shift.
    pub(crate) context_full: bool,
    /// Tokens sampled, this one counted.
    pub(crate) predicted: u32,
    /// Time since the first sampled token.
    pub(crate) elapsed: Duration,
}

impl Answer {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self {
            detokenizer: Detokenizer::new(),
            matcher: StopMatcher::new(stops.to_vec()),
            text: String::new(),
            matched: 0,
            sent: 0,
            has_new_line: false,
            line: 0,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn has_new_line(&self) -> bool {
        self.has_new_line
    }

    /// Takes the bytes of a sampled token. The last token of a generation releases what only looked like a stop string.
    pub(crate) fn push(&mut self, bytes: &[u8], end_of_generation: bool) -> Addition {
        self.text.push_str(&self.detokenizer.push(bytes));
        if self.detokenizer.pending() > 0 {
            return Addition { text: None, word: None, new_line: bytes.contains(&b'\n') };
        }
        let outcome = self.matcher.push(&self.text[self.matched..]);
        self.matched = self.text.len();
        let mut emit = outcome.emit;
        if outcome.stopped.is_some() {
            self.text.truncate(self.sent + emit.len());
        } else if end_of_generation {
            emit.push_str(&self.matcher.flush());
        }
        self.sent += emit.len();
        Addition { new_line: emit.contains('\n'), text: Some(emit), word: outcome.stopped }
    }

    /// Whether the generation ends with the token that made `addition`, and why. Later checks overrule earlier ones.
    pub(crate) fn judge(
        &mut self,
        addition: &Addition,
        limits: &Limits,
        at: Circumstances,
    ) -> Option<StopReason> {
        let mut stop = addition.word.clone().map(StopReason::Word);
        if at.context_full {
            stop = Some(StopReason::Limit);
        }
        if stop.is_none() && limits.predict.is_some_and(|most| at.predicted >= most) {
            stop = Some(StopReason::Limit);
        }
        if self.is_outdented(limits.indent) {
            stop = Some(StopReason::Limit);
        }
        if addition.new_line {
            self.has_new_line = true;
            if limits.time.is_some_and(|most| at.elapsed > most) {
                stop = Some(StopReason::Limit);
            }
        }
        if at.end_of_generation {
            stop = Some(StopReason::EndOfGeneration);
        }
        stop
    }

    /// Whether the last line is indented by fewer than `least` characters; then the line is cut off behind its
    /// indentation. Looks at one line a token, so a token with several line breaks is followed up by the next tokens.
    fn is_outdented(&mut self, least: u32) -> bool {
        if least == 0 || !self.has_new_line {
            return false;
        }
        let mut outdented = false;
        if self.line > 0 {
            let indentation = indentation(self.text.get(self.line..).unwrap_or(""));
            let end = self.line + indentation;
            if (end < self.text.len() || self.detokenizer.pending() > 0) && indentation < least as usize {
                self.text.truncate(end);
                self.detokenizer = Detokenizer::new();
                outdented = true;
            }
        }
        if let Some(at) = self.text.get(self.line..).and_then(|rest| rest.find('\n')) {
            self.line += at + 1;
        }
        outdented
    }

    /// The whole text, and the part of it that was never sent.
    pub(crate) fn finish(mut self) -> (String, String) {
        let rest = self.detokenizer.finish();
        self.text.push_str(&rest);
        let tail = self.text.get(self.sent..).unwrap_or("").to_owned();
        (self.text, tail)
    }
}

/// Bytes of a line's leading spaces and tabs.
fn indentation(line: &str) -> usize {
    line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

#[cfg(test)]
mod tests;
