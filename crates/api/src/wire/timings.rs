//! `timings`, `usage` and `prompt_progress`.

use std::time::Duration;

use reprise_engine::{Finished, Progress, Timings};
use serde::Serialize;

/// Counts and speeds of one generation, or of all generations of a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct TimingsJson {
    cache_n: u64,
    prompt_n: u64,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: u64,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
    /// Tokens drafted, and of these the accepted; only where there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n_accepted: Option<u64>,
}

/// Tokens of an OpenAI answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    completion_tokens: u64,
    prompt_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
}

/// How far a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct ProgressJson {
    total: u32,
    cache: u32,
    processed: u32,
    time_ms: u64,
}

/// Sums over the finished generations of a request: prompts count once, however many copies were made of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    prompt_tokens: u64,
    cached: u64,
    prompt: u64,
    prompt_time: Duration,
    predicted: u64,
    steps: u64,
    predicted_time: Duration,
    drafted: u64,
    accepted: u64,
}

impl Totals {
    /// Adds a generation that ended.
    pub(crate) fn add(&mut self, finished: &Finished) {
        let timings = &finished.timings;
        if finished.copy == 0 {
            self.prompt_tokens += u64::from(finished.prompt_tokens);
            self.cached += u64::from(timings.cached);
            self.prompt += u64::from(timings.prompt);
            self.prompt_time += timings.prompt_time;
        }
        self.predicted += u64::from(timings.predicted);
        self.steps += u64::from(timings.predicted.saturating_sub(1));
        self.predicted_time += timings.predicted_time;
        self.drafted += u64::from(timings.drafts.drafted);
        self.accepted += u64::from(timings.drafts.accepted);
    }

    /// The sums of several generations.
    pub(crate) fn of<'a>(results: impl IntoIterator<Item = &'a Finished>) -> Self {
        let mut totals = Self::default();
        results.into_iter().for_each(|finished| totals.add(finished));
        totals
    }

    /// As `usage`.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            completion_tokens: self.predicted,
            prompt_tokens: self.prompt_tokens,
            total_tokens: self.predicted + self.prompt_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: self.cached },
        }
    }
}

impl From<&Totals> for TimingsJson {
    fn from(totals: &Totals) -> Self {
        let prompt_ms = milliseconds(totals.prompt_time);
        // The first token can fall into the microsecond in which the prompt ended.
        let shortest = if totals.predicted > 0 { 0.001 } else { 0.0 };
        let predicted_ms = milliseconds(totals.predicted_time).max(shortest);
        // The first token comes from the prompt's logits: it is no decoding step.
        Self {
            cache_n: totals.cached,
            prompt_n: totals.prompt,
            prompt_ms,
            prompt_per_token_ms: ratio(prompt_ms, totals.prompt as f64),
            prompt_per_second: ratio(1e3, prompt_ms) * totals.prompt as f64,
            predicted_n: totals.predicted,
            predicted_ms,
            predicted_per_token_ms: ratio(predicted_ms, totals.steps as f64),
            predicted_per_second: ratio(1e3, predicted_ms) * totals.steps as f64,
            draft_n: (totals.drafted > 0).then_some(totals.drafted),
            draft_n_accepted: (totals.drafted > 0).then_some(totals.accepted),
        }
    }
}

impl From<&Timings> for TimingsJson {
    fn from(timings: &Timings) -> Self {
        Self::from(&Totals {
            prompt_tokens: 0,
            cached: timings.cached.into(),
            prompt: timings.prompt.into(),
            prompt_time: timings.prompt_time,
            predicted: timings.predicted.into(),
            steps: timings.predicted.saturating_sub(1).into(),
            predicted_time: timings.predicted_time,
            drafted: timings.drafts.drafted.into(),
            accepted: timings.drafts.accepted.into(),
        })
    }
}

/// While the prompt runs its time is not known yet.
impl From<&Progress> for TimingsJson {
    fn from(progress: &Progress) -> Self {
        Self::from(&Timings {
            cached: progress.cached,
            prompt: progress.processed.saturating_sub(progress.cached),
            ..Timings::default()
        })
    }
}

impl From<&Progress> for ProgressJson {
    fn from(progress: &Progress) -> Self {
        let time_ms = u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX);
        Self { total: progress.total, cache: progress.cached, processed: progress.processed, time_ms }
    }
}

/// Milliseconds with three digits, as the reference's microsecond clock gives them.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// Zero where the divisor is not known yet.
fn ratio(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use reprise_engine::Drafts;

    use super::*;

    #[test]
    fn rates_count_decoding_steps() {
        let timings = Timings {
            cached: 4,
            prompt: 1,
            prompt_time: Duration::from_micros(366),
            predicted: 2,
            predicted_time: Duration::from_micros(270),
            ..Timings::default()
        };
        let json = serde_json::to_string(&TimingsJson::from(&timings)).unwrap();
        assert_eq!(
            json,
            r#"{"cache_n":4,"prompt_n":1,"prompt_ms":0.366,"prompt_per_token_ms":0.366,"prompt_per_second":2732.24043715847,"predicted_n":2,"predicted_ms":0.27,"predicted_per_token_ms":0.27,"predicted_per_second":3703.7037037037035}"#
        );
    }

    #[test]
    fn drafts_are_counted_where_there_are_any() {
        let of = |drafts| {
            let json = TimingsJson::from(&Timings { predicted: 9, drafts, ..Timings::default() });
            (json.draft_n, json.draft_n_accepted)
        };
        assert_eq!(of(Drafts { drafted: 8, accepted: 0 }), (Some(8), Some(0)));
        assert_eq!(of(Drafts::default()), (None, None));
    }

    #[test]
    fn one_token_has_no_rate_and_nothing_has_no_time() {
        let one = TimingsJson::from(&Timings { predicted: 1, ..Timings::default() });
        assert_eq!(
            (one.predicted_ms, one.predicted_per_token_ms, one.predicted_per_second),
            (0.001, 0.0, 0.0)
        );
        let none = TimingsJson::from(&Timings::default());
        assert_eq!((none.prompt_ms, none.prompt_per_second, none.predicted_ms), (0.0, 0.0, 0.0));
    }
}
