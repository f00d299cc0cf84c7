//! Runs the prompts of a request side by side and gathers what they become.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::response::Response;
use futures::stream::{BoxStream, Stream, StreamExt};
use reprise_engine::{EngineError, Event, Finished, Generate};
use reprise_gguf::TokenId;

use crate::body::ok;
use crate::router::Api;
use crate::wire::options::Options;
use crate::wire::reply::{Reply, Shape};
use crate::{ApiError, sse};

/// A request that was understood.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// At least one.
    pub(crate) prompts: Vec<Vec<TokenId>>,
    /// What all of them are run with.
    pub(crate) options: Options,
    /// How the answer looks.
    pub(crate) shape: Shape,
}

/// The events of all prompts of a request, each with the index of its result. Dropping it cancels them.
///
/// Of the events that are there at the same time an earlier prompt's come first, so that prompts which ran one after
/// the other are told one after the other, however late the client reads.
pub(crate) struct Events(Vec<BoxStream<'static, (usize, Event)>>);

impl Stream for Events {
    type Item = (usize, Event);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut at = 0;
        while let Some(prompt) = self.0.get_mut(at) {
            match prompt.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                Poll::Ready(None) => drop(self.0.remove(at)),
                Poll::Pending => at += 1,
            }
        }
        if self.0.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Answers a request: as a stream of events, or when everything has ended.
///
/// # Errors
/// The first failure of any prompt; of a stream only one that comes before its first result.
pub(crate) async fn run(api: &Api, job: Job) -> Result<Response, ApiError> {
    let Job { prompts, options: Options { template, look }, shape } = job;
    let expected = prompts.len() * template.copies as usize;
    let stream = look.stream;
    let reply = Reply::new(shape, look, api.engine.clone(), &api.config);
    let events = submit(api, prompts, &template);
    if stream { sse::respond(reply, events, expected).await } else { gather(reply, events, expected).await }
}

/// Results are numbered by prompt, then by copy.
fn submit(api: &Api, prompts: Vec<Vec<TokenId>>, template: &Generate) -> Events {
    let copies = template.copies as usize;
    let start = |(position, prompt)| {
        let events = api.engine.generate(Generate { prompt, ..template.clone() });
        let numbered = move |event: Event| (position * copies + copy_of(&event) as usize, event);
        events.map(numbered).boxed()
    };
    Events(prompts.into_iter().enumerate().map(start).collect())
}

fn copy_of(event: &Event) -> u32 {
    match event {
        Event::Started(placed) => placed.copy,
        Event::Progress(progress) => progress.copy,
        Event::Step(step) => step.copy,
        Event::Finished(finished) => finished.copy,
        Event::Heartbeat | Event::Failed(_) => 0,
    }
}

async fn gather(reply: Reply, mut events: Events, expected: usize) -> Result<Response, ApiError> {
    let mut results: Vec<(usize, Finished)> = Vec::with_capacity(expected);
    while let Some((index, event)) = events.next().await {
        match event {
            Event::Finished(finished) => results.push((index, *finished)),
            Event::Failed(error) => return Err(error.into()),
            Event::Started(_) | Event::Progress(_) | Event::Step(_) | Event::Heartbeat => {}
        }
    }
    if results.len() < expected {
        return Err(EngineError::Closed.into());
    }
    results.sort_by_key(|(index, _)| *index);
    let results: Vec<_> = results.into_iter().map(|(_, finished)| finished).collect();
    Ok(ok(&reply.whole(&results)))
}
