//! Runs the prompts of a request side by side and gathers what they become.

use axum::response::Response;
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
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
pub(crate) type Events = SelectAll<BoxStream<'static, (usize, Event)>>;

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
    select_all(prompts.into_iter().enumerate().map(|(position, prompt)| {
        let events = api.engine.generate(Generate { prompt, ..template.clone() });
        let numbered = move |event: Event| (position * copies + copy_of(&event) as usize, event);
        events.map(numbered).boxed()
    }))
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
