//! The prompt cache's blocks on another machine: objects below a URL (`--cache-path http://host/prefix`).
//!
//! The other end is whatever answers GET, HEAD, PUT and DELETE of `URL/<the key's 64 digits>.kv`: a bucket, a web server with
//! WebDAV's methods. It keeps to a budget of its own; a block that it has dropped is computed anew, as one that was
//! damaged on the way is. Whoever may write there can make this server compute more, not answer otherwise.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::channel::oneshot;
use reprise_engine::{BlockQueue, BlockStore, BlockStoreStats};
use reprise_kv::stored::BlockKey;
use ureq::http::{StatusCode, Uri};

use super::folder::LARGEST;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nothing is asked of a place that did not answer.
const PAUSE: Duration = Duration::from_secs(30);
/// Bytes of the blocks that wait to be written.
const QUEUE: u64 = 256 << 20;
/// Requests at the same time, beside the one that writes.
const READERS: usize = 4;

/// Blocks below a URL. Dropping it ends its threads and forgets what is queued: flush before.
#[derive(Debug)]
pub(crate) struct UrlBlocks {
    remote: Arc<Remote>,
    /// Taken only when it ends.
    channels: Option<(Sender<Job>, Sender<Job>)>,
    threads: Vec<JoinHandle<()>>,
}

/// What a thread does next.
type Job = Box<dyn FnOnce(&Remote) + Send>;

/// The place, and what is known of it.
#[derive(Debug)]
struct Remote {
    agent: ureq::Agent,
    /// Without a slash at its end.
    url: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: BlockQueue,
    /// Blocks that were there when they were last asked for.
    seen: HashSet<BlockKey>,
    bytes: u64,
    dropped: u64,
    damaged: u64,
    /// When the place did not answer.
    silent_since: Option<Instant>,
    closed: bool,
}

impl UrlBlocks {
    /// Starts the threads; nothing is asked of the place yet.
    ///
    /// # Errors
    /// When it is no URL of a place that can be asked.
    pub(super) fn open(url: &str) -> Result<Self> {
        let parsed: Uri = url.parse().with_context(|| format!("--cache-path '{url}' is no URL"))?;
        ensure!(
            parsed.host().is_some() && parsed.query().is_none(),
            "--cache-path '{url}' must be http://host/path or https://host/path"
        );
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let (url, state) = (url.trim_end_matches('/').to_owned(), Mutex::new(State::new()));
        let remote = Arc::new(Remote { agent, url, state });
        let ((write, writes), (ask, asks)) = (channel(), channel());
        let asks = Arc::new(Mutex::new(asks));
        let mut threads = vec![spawn("cache-write", &remote, &Arc::new(Mutex::new(writes)))?];
        for _ in 0..READERS {
            threads.push(spawn("cache-read", &remote, &asks)?);
        }
        Ok(Self { remote, channels: Some((write, ask)), threads })
    }

    /// Has a thread do something, and gives its result; `None` when there is no thread any more.
    async fn ask<T: Send + 'static>(&self, job: impl FnOnce(&Remote) -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let (_, asks) = self.channels.as_ref()?;
        // Whoever asked may have left.
        asks.send(Box::new(move |remote: &Remote| drop(tell.send(job(remote))))).ok()?;
        told.await.ok()
    }

    fn order(&self, job: impl FnOnce(&Remote) + Send + 'static) -> bool {
        self.channels.as_ref().is_some_and(|(orders, _)| orders.send(Box::new(job)).is_ok())
    }
}

fn spawn(name: &str, remote: &Arc<Remote>, jobs: &Arc<Mutex<Receiver<Job>>>) -> Result<JoinHandle<()>> {
    let (remote, jobs) = (Arc::clone(remote), Arc::clone(jobs));
    let next = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let work = move || {
        while let Ok(job) = next() {
            if remote.state().closed {
                return;
            }
            job(&remote);
        }
    };
    Ok(thread::Builder::new().name(name.into()).spawn(work)?)
}

impl Remote {
    /// Nothing in it is left half-changed by a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &BlockKey) -> String {
        format!("{}/{key}.kv", self.url)
    }

    /// Whether a block is there.
    fn has(&self, key: &BlockKey) -> bool {
        let found = self.answered("ask for", || Ok(self.agent.head(self.object(key)).call()?.status()));
        let there = found.is_some_and(|status| status.is_success());
        self.note(key, there);
        there
    }

    /// Length of the leading run of `keys` that is there. Chains are written from their first block on and mostly lose their ends,
    /// so halving finds it in few requests; where a block lacks in the middle, less or more of the chain than is there.
    fn find(&self, keys: &[BlockKey]) -> usize {
        let found = match keys.first() {
            Some(first) if self.has(first) => 1 + keys[1..].partition_point(|key| self.has(key)),
            // The usual case: a text that nobody has seen.
            _ => 0,
        };
        // Those between the ones that were asked for are there, too.
        keys[..found].iter().for_each(|key| self.note(key, true));
        found
    }

    fn read(&self, key: &BlockKey) -> Option<Bytes> {
        let bytes = self.answered("read", || {
            let mut response = self.agent.get(self.object(key)).call()?;
            let found = response.status().is_success();
            found.then(|| response.body_mut().with_config().limit(LARGEST).read_to_vec()).transpose()
        })?;
        self.note(key, bytes.is_some());
        bytes.map(Bytes::from)
    }

    /// Writes a block of the queue.
    fn write(&self, key: &BlockKey) {
        let Some(block) = self.state().queue.get(key).cloned() else { return };
        let written = self.has(key)
            || self
                .answered("write", || {
                    Ok(self.agent.put(self.object(key)).send(&block.joined()[..])?.status())
                })
                .is_some_and(|status| self.accepted(key, status));
        let mut state = self.state();
        if state.queue.remove(key) && written {
            state.bytes += block.bytes();
            state.seen.insert(*key);
        } else {
            state.dropped += 1;
        }
    }

    fn accepted(&self, key: &BlockKey, status: StatusCode) -> bool {
        if !status.is_success() {
            tracing::warn!(%status, url = self.object(key), "a block of the prompt cache was not taken");
        }
        status.is_success()
    }

    fn remove(&self, key: &BlockKey) {
        self.answered("remove", || Ok(self.agent.delete(self.object(key)).call()?.status()));
    }

    fn note(&self, key: &BlockKey, there: bool) {
        let mut state = self.state();
        if there {
            state.seen.insert(*key);
        } else {
            state.seen.remove(key);
        }
    }

    /// What the place answered; after a failure it is left alone for a while, so that requests do not wait for it.
    fn answered<T>(&self, what: &str, ask: impl FnOnce() -> Result<T, ureq::Error>) -> Option<T> {
        if self.state().silent_since.is_some_and(|since| since.elapsed() < PAUSE) {
            return None;
        }
        match ask() {
            Ok(answer) => {
                self.state().silent_since = None;
                Some(answer)
            }
            Err(error) => {
                self.state().silent_since = Some(Instant::now());
                tracing::warn!(%error, "could not {what} a block at {}; not asked for {PAUSE:?}", self.url);
                None
            }
        }
    }
}

impl State {
    fn new() -> Self {
        Self {
            queue: BlockQueue::new(QUEUE, LARGEST),
            seen: HashSet::new(),
            bytes: 0,
            dropped: 0,
            damaged: 0,
            silent_since: None,
            closed: false,
        }
    }
}

impl BlockStore for UrlBlocks {
    async fn find(&self, keys: &[BlockKey]) -> usize {
        let keys = keys.to_vec();
        self.ask(move |remote| remote.find(&keys)).await.unwrap_or(0)
    }

    async fn read(&self, key: &BlockKey) -> Option<Bytes> {
        let (queued, key) = (self.remote.state().queue.get(key).cloned(), *key);
        match queued {
            Some(block) => Some(block.joined()),
            None => self.ask(move |remote| remote.read(&key)).await?,
        }
    }

    fn write(&self, key: BlockKey, parts: Vec<Bytes>) -> bool {
        {
            let mut state = self.remote.state();
            if state.queue.contains(&key) || state.seen.contains(&key) {
                return false;
            }
            if !state.queue.push(key, parts) {
                state.dropped += 1;
                return false;
            }
        }
        self.order(move |remote| remote.write(&key))
    }

    fn holds(&self, key: &BlockKey) -> bool {
        let state = self.remote.state();
        state.queue.contains(key) || state.seen.contains(key)
    }

    fn discard(&self, key: &BlockKey) {
        let mut state = self.remote.state();
        state.seen.remove(key);
        state.queue.remove(key);
        state.damaged += 1;
        drop(state);
        let key = *key;
        self.order(move |remote| remote.remove(&key));
    }

    async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        // Whoever asked may have left.
        let tell = move |_: &Remote| tell.send(()).unwrap_or(());
        if self.order(tell) {
            // A thread that has ended has dropped everything.
            let _ = told.await;
        }
    }

    /// Of what this process has seen and written; what else is there nobody tells.
    fn stats(&self) -> BlockStoreStats {
        let state = self.remote.state();
        BlockStoreStats {
            blocks: state.seen.len() as u64,
            bytes: state.bytes,
            budget: None,
            dropped: state.dropped,
            damaged: state.damaged,
        }
    }
}

impl Drop for UrlBlocks {
    fn drop(&mut self) {
        self.remote.state().closed = true;
        self.channels.take();
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}
