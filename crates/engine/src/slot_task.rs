//! Stage 11: a request in its slot: what it has done, what it tells its client, how it ends.

use std::sync::Arc;
use std::time::Duration;

use reprise_gguf::TokenId;
use reprise_model::{Output, Scores};
use reprise_text::Text;

use crate::outbox::Outbox;
use crate::sample::{Report, Sampler, TokenProbs};
use crate::speculate::Drafter;
use crate::stop::{Answer, Circumstances};
use crate::{
    Drafts, EngineError, Event, Finished, Generate, Placed, Progress, SlotTask, Step, StopReason, Timings,
};

/// One copy of a request, running in a slot.
#[derive(Debug)]
pub(crate) struct Task {
    /// Counts requests; the copies of one share it. Younger requests have larger ids.
    pub(crate) id: u64,
    pub(crate) request: Arc<Generate>,
    pub(crate) placed: Placed,
    pub(crate) phase: Phase,
    /// The scheduling round that decoded it last.
    pub(crate) round: u64,
    /// Tokens were lost to the context's end.
    pub(crate) truncated: bool,
    /// Made when the first draft is wanted.
    pub(crate) drafter: Option<Drafter>,
    drafts: Drafts,
    events: Outbox,
    sampler: Sampler,
    answer: Answer,
    tokens: Vec<TokenId>,
    probs: Vec<TokenProbs>,
    /// Prompt tokens evaluated.
    evaluated: u32,
    /// Prompt tokens cached or evaluated when progress was last reported.
    reported: u32,
    started: Duration,
    prompt_done: Duration,
    last_token: Duration,
    last_sent: Duration,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The prompt is being evaluated.
    Prefill,
    /// A further copy, waiting until the first has evaluated the prompt.
    Copying,
    /// This token was sampled and is evaluated next.
    Decode(TokenId),
}

/// What of the engine a task sees when it samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) text: &'a Text,
    pub(crate) now: Duration,
    /// The slot has no room for another token, and may not shift.
    pub(crate) context_full: bool,
    /// The token that was drafted in its place.
    pub(crate) guess: Option<TokenId>,
}

impl Task {
    pub(crate) fn new(
        id: u64,
        request: Arc<Generate>,
        placed: Placed,
        sampler: Sampler,
        events: Outbox,
        now: Duration,
    ) -> Self {
        let mut task = Self {
            id,
            phase: if placed.copy == 0 { Phase::Prefill } else { Phase::Copying },
            round: 0,
            truncated: false,
            drafter: None,
            drafts: Drafts::default(),
            answer: Answer::new(&request.stops),
            tokens: Vec::new(),
            probs: Vec::new(),
            evaluated: 0,
            reported: placed.cached,
            started: now,
            prompt_done: now,
            last_token: now,
            last_sent: now,
            request,
            placed,
            events,
            sampler,
        };
        task.send(Event::Started(task.placed.clone()), now);
        if task.placed.copy == 0 {
            task.report_progress(now);
        }
        task
    }

    /// The client has dropped its [`crate::Generation`].
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// The client is far behind with reading: nothing is decoded until it has caught up.
    pub(crate) fn is_paused(&self) -> bool {
        self.events.is_full()
    }

    /// Nothing is sampled: the request only warms the cache.
    pub(crate) fn only_warms(&self) -> bool {
        self.request.limits.predict == Some(0)
    }

    /// A part of the prompt was evaluated; `every` prompt tokens, and at its end, the client hears of it.
    pub(crate) fn evaluated(&mut self, count: u32, every: u32, now: Duration) {
        self.evaluated += count;
        self.prompt_done = now;
        let processed = self.placed.cached + self.evaluated;
        if processed as usize >= self.request.prompt.len() || processed - self.reported >= every {
            self.reported = processed;
            self.report_progress(now);
        }
    }

    /// A further copy takes over what the first has done for the prompt.
    pub(crate) fn inherit(&mut self, first: &PromptWork, now: Duration) {
        self.placed.cached = first.cached;
        self.evaluated = first.evaluated;
        self.reported = first.cached + first.evaluated;
        (self.started, self.prompt_done) = (first.started, first.prompt_done);
        self.report_progress(now);
    }

    pub(crate) fn prompt_work(&self) -> PromptWork {
        PromptWork {
            cached: self.placed.cached,
            evaluated: self.evaluated,
            started: self.started,
            prompt_done: self.prompt_done,
        }
    }

    /// What the next token has to be chosen from, for a model whose rows of logits are `width` wide.
    pub(crate) fn output(&self, width: usize) -> Output {
        match self.sampler.reach(width) {
            Some(reach) if self.request.probabilities.is_none() => Output::Top(reach),
            _ => Output::LastLogits,
        }
    }

    /// A draft is about to be verified.
    pub(crate) fn drafted(&mut self, tokens: u32) {
        self.drafts.drafted += tokens;
    }

    /// Samples a token from its logits, sends it, and tells whether and why the generation ends with it.
    ///
    /// # Errors
    /// What the sampler refuses, for example a grammar that allows no token.
    pub(crate) fn sample(
        &mut self,
        scores: Scores<'_>,
        scene: Scene<'_>,
    ) -> Result<(TokenId, Option<StopReason>), EngineError> {
        let request = Arc::clone(&self.request);
        let report = request.probabilities.map(|wanted| Report {
            text: scene.text,
            top: wanted.top,
            post_sampling: wanted.post_sampling,
            special: request.special,
        });
        let (token, probs) = self.sampler.sample(scores, report)?;
        self.sampler.accept(token);
        self.phase = Phase::Decode(token);
        self.tokens.push(token);
        self.drafts.accepted += u32::from(scene.guess == Some(token));
        if let Some(drafter) = &mut self.drafter {
            drafter.push(token);
        }
        self.last_token = scene.now;
        if self.tokens.len() == 1 {
            self.prompt_done = scene.now;
        }

        let tokenizer = &scene.text.tokenizer;
        let end_of_generation = tokenizer.vocab().is_eog(token);
        let piece = if request.special { tokenizer.piece(token) } else { tokenizer.piece_plain(token) };
        let mut addition = self.answer.push(piece, end_of_generation);
        self.truncated |= scene.context_full;
        let at = Circumstances {
            end_of_generation,
            context_full: scene.context_full,
            predicted: self.predicted(),
            elapsed: scene.now.saturating_sub(self.prompt_done),
        };
        let stop = self.answer.judge(&addition, &request.limits, at);
        if let Some(text) = addition.text.take() {
            self.probs.extend(probs.clone());
            let step = Step {
                copy: self.placed.copy,
                text,
                token,
                predicted: self.predicted(),
                prompt_tokens: self.prompt_tokens(),
                probs,
                timings: self.timings(),
            };
            self.send(Event::Step(step), scene.now);
        }
        Ok((token, stop))
    }

    /// Tells the client that this copy has ended well; `slot_tokens` is what the slot holds.
    pub(crate) fn finish(mut self, stop: StopReason, slot_tokens: u32, text: &Text) {
        if let (StopReason::Word(word), false) = (&stop, self.request.stream) {
            // As the reference: what the stop string would take as tokens by itself, not what was sampled for it.
            let special = reprise_text::Special { add: false, parse: false };
            let cut = text.tokenizer.encode(word, special).len();
            self.probs.truncate(self.probs.len().saturating_sub(cut));
        }
        let (prompt_tokens, timings) = (self.prompt_tokens(), self.timings());
        let has_new_line = self.answer.has_new_line();
        let (text, tail) = self.answer.finish();
        let finished = Finished {
            copy: self.placed.copy,
            slot: self.placed.slot,
            tail,
            text,
            tokens: self.tokens,
            probs: self.probs,
            stop,
            truncated: self.truncated,
            has_new_line,
            prompt_tokens,
            slot_tokens,
            timings,
            placed: self.placed,
            seed: self.sampler.seed(),
            request: self.request,
        };
        self.events.send(Event::Finished(Box::new(finished)));
    }

    /// Tells the client that the whole request has failed.
    pub(crate) fn fail(&mut self, error: EngineError, now: Duration) {
        self.send(Event::Failed(error), now);
    }

    /// Sends a sign of life after a silence that the client finds too long.
    pub(crate) fn keep_alive(&mut self, now: Duration) {
        let silent = |after| now.saturating_sub(self.last_sent) >= after && !self.is_paused();
        if self.request.heartbeat.is_some_and(silent) {
            self.send(Event::Heartbeat, now);
        }
    }

    pub(crate) fn predicted(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn timings(&self) -> Timings {
        Timings {
            cached: self.placed.cached,
            prompt: self.evaluated,
            prompt_time: self.prompt_done - self.started,
            predicted: self.predicted(),
            predicted_time: if self.tokens.is_empty() {
                Duration::ZERO
            } else {
                self.last_token - self.prompt_done
            },
            drafts: self.drafts,
        }
    }

    /// What `GET /slots` says while it runs.
    pub(crate) fn snapshot(&self) -> SlotTask {
        SlotTask {
            id: self.id,
            request: Arc::clone(&self.request),
            placed: self.placed.clone(),
            processed: self.evaluated,
            cached: self.placed.cached,
            decoded: self.predicted(),
            remaining: self.request.limits.predict.map(|most| most.saturating_sub(self.predicted())),
            has_next_token: true,
            has_new_line: self.answer.has_new_line(),
            generated: self.answer.text().to_owned(),
            timings: self.timings(),
            saved_time: Duration::ZERO,
        }
    }

    /// What `GET /slots` says of it when it is over: llama-server forgets the counts.
    pub(crate) fn epitaph(&self) -> SlotTask {
        SlotTask {
            processed: 0,
            cached: 0,
            decoded: 0,
            remaining: None,
            has_next_token: false,
            has_new_line: false,
            ..self.snapshot()
        }
    }

    fn prompt_tokens(&self) -> u32 {
        u32::try_from(self.request.prompt.len()).unwrap_or(u32::MAX)
    }

    fn report_progress(&mut self, now: Duration) {
        if self.request.progress {
            let progress = Progress {
                copy: self.placed.copy,
                total: self.prompt_tokens(),
                cached: self.placed.cached,
                processed: self.placed.cached + self.evaluated,
                elapsed: now.saturating_sub(self.started),
            };
            self.send(Event::Progress(progress), now);
        }
    }

    fn send(&mut self, event: Event, now: Duration) {
        self.last_sent = now;
        self.events.send(event);
    }
}

/// What a prompt has cost; the copies of a request report the first one's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PromptWork {
    cached: u32,
    evaluated: u32,
    started: Duration,
    prompt_done: Duration,
}
