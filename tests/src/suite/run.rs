//! Running one scenario against one host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::check::{self, Expected};
use super::host::{self, Host, Hosts, Start};
use super::http;
use super::scenario::Scenario;
use super::step::{Action, Damage, DamageKind, MoveSlot, Request, Restart, Side, Step};
use super::target::Target;
use super::texts::{self, Answers};

/// Longest wait for slots to become busy, or for requests to wait for them.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a scenario ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every check held.
    Passed,
    /// It was recorded.
    Recorded,
    /// A known failure failed.
    KnownFailure(String),
    /// This target cannot run it.
    Skipped(&'static str),
    /// What was wrong.
    Failed(Vec<String>),
}

/// Runs a scenario, or records it.
///
/// # Errors
/// When the expected values cannot be read or written.
pub fn run(scenario: &Scenario, hosts: &Hosts, fixtures: &Path, recording: bool) -> Result<Outcome> {
    let target = hosts.target();
    if scenario.ours_only && !target.is_ours() {
        return Ok(Outcome::Skipped("only ours can run it"));
    }
    if !host::has_model(&scenario.model, fixtures) {
        return Ok(Outcome::Skipped("REPRISE_MODELS names no folder with its model"));
    }
    ensure!(!recording || target == Target::LlamaServer, "expected values come from llama-server only");
    let file = scenario.folder.join("expected.json");
    let expected = if recording { None } else { Some(Expected::load(&file, scenario.ours_only)?) };
    let (faults, recorded) = match Play::begin(scenario, hosts, fixtures) {
        Ok(play) => play.play_out(expected.as_ref(), target.is_ours()),
        Err(error) => (vec![format!("{error:#}")], Expected::default()),
    };
    if recording && faults.is_empty() {
        recorded.store(&file)?;
        return Ok(Outcome::Recorded);
    }
    let known = scenario.known_failure.as_ref().and_then(|known| known.reason(target));
    Ok(match (known, faults.is_empty()) {
        (Some(why), false) => Outcome::KnownFailure(why.to_owned()),
        (Some(_), true) => Outcome::Failed(vec!["a known failure passes: remove `known_failure`".into()]),
        (None, true) => Outcome::Passed,
        (None, false) => Outcome::Failed(faults),
    })
}

/// A request that runs while other steps are done.
struct Running {
    thread: JoinHandle<Result<Value>>,
    cancelled: Arc<AtomicBool>,
}

struct Play<'a> {
    scenario: &'a Scenario,
    fixtures: &'a Path,
    host: Box<dyn Host>,
    peer: Option<Box<dyn Host>>,
    running: BTreeMap<String, Running>,
    answers: Answers,
}

impl<'a> Play<'a> {
    fn begin(scenario: &'a Scenario, hosts: &Hosts, fixtures: &'a Path) -> Result<Self> {
        let host = hosts.start(&Start::of(scenario, fixtures)?)?;
        Ok(Self { scenario, fixtures, host, peer: None, running: BTreeMap::new(), answers: Answers::new() })
    }

    /// Does all steps. What was wrong, and the part of the answers that the checks look at. Without expected values only
    /// what kept a step from being done is wrong.
    fn play_out(mut self, expected: Option<&Expected>, ours: bool) -> (Vec<String>, Expected) {
        let (mut faults, mut recorded) = (Vec::new(), Expected::default());
        for step in &self.scenario.steps {
            let answer = self.act(&step.name, &step.action);
            let checked = answer.and_then(|answer| {
                let ours = if ours { Some(self.ours(step)?) } else { None };
                if let Some(expected) = expected {
                    faults.extend(check::faults(step, &answer, &expected.step(&step.name), ours.as_ref()));
                }
                recorded.insert(&step.name, check::record(step, &answer, self.scenario.near_tie));
                Ok(())
            });
            if let Err(error) = checked {
                faults.push(format!("{}: {error:#}", step.name));
                break;
            }
        }
        if !self.host.alive() {
            faults.push("the host died".to_owned());
        }
        if !faults.is_empty() {
            faults.push(format!("log of the host:\n{}", tail(&self.host.log(), 30)));
        }
        (faults, recorded)
    }

    /// Does a step; steps without an answer of their own give null.
    fn act(&mut self, name: &str, action: &Action) -> Result<Value> {
        let mut answer = Value::Null;
        match action {
            Action::Request(request) => {
                let request = self.filled(request)?;
                answer = http::send(self.url_for(&request)?, &request, &AtomicBool::new(false))?;
            }
            Action::Background(request) => self.start(name, request)?,
            Action::Join(started) => answer = self.join(started)?,
            Action::Cancel(started) => answer = self.cancel(started)?,
            Action::AwaitBusy(count) => self.await_count("/slots", busy_slots, |busy| busy == *count)?,
            Action::AwaitDeferred(count) => {
                self.await_count("/metrics", deferred_requests, |deferred| deferred == *count)?;
            }
            Action::AwaitStored(count) => {
                self.await_count("/metrics", stored_blocks, |stored| stored >= *count)?;
            }
            Action::Restart(how) => self.restart(true, how)?,
            Action::Kill(how) => self.restart(false, how)?,
            Action::Damage(damage) => self.damage(damage)?,
            Action::MoveSlot(movement) => answer = self.move_slot(movement)?,
            Action::CopyFile(copy) => {
                let [from, to] = self.sides(copy.to)?;
                to.write(&copy.file, &from.read(&copy.file)?)?;
            }
        }
        self.answers.insert(name.to_owned(), answer.clone());
        Ok(answer)
    }

    /// Our own values, in which names stand too.
    fn ours(&self, step: &Step) -> Result<BTreeMap<String, Value>> {
        let filled = |(path, value): (&String, &Value)| {
            Ok((path.clone(), texts::fill(value, &self.scenario.texts, &self.answers)?))
        };
        step.ours.iter().map(filled).collect()
    }

    /// The request with texts and earlier answers in the place of their names.
    fn filled(&self, request: &Request) -> Result<Request> {
        let json = request
            .json
            .as_ref()
            .map(|json| texts::fill(json, &self.scenario.texts, &self.answers))
            .transpose()?;
        let header = |(name, value): (&String, &String)| {
            let value = texts::fill(&value.as_str().into(), &self.scenario.texts, &self.answers)?;
            let value = value.as_str().with_context(|| format!("the value of header {name} is no text"))?;
            Ok((name.clone(), value.to_owned()))
        };
        let headers = request.headers.iter().map(header).collect::<Result<_>>()?;
        Ok(Request { json, headers, ..request.clone() })
    }

    fn start(&mut self, name: &str, request: &Request) -> Result<()> {
        let request = self.filled(request)?;
        let url = self.url_for(&request)?.to_owned();
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || http::send(&url, &request, &flag))?;
        self.running.insert(name.to_owned(), Running { thread, cancelled });
        Ok(())
    }

    fn join(&mut self, started: &str) -> Result<Value> {
        let running =
            self.running.remove(started).with_context(|| format!("nothing is called '{started}'"))?;
        running.thread.join().map_err(|_| anyhow!("the request of '{started}' panicked"))?
    }

    fn cancel(&mut self, started: &str) -> Result<Value> {
        let running = self.running.get(started).with_context(|| format!("nothing is called '{started}'"))?;
        running.cancelled.store(true, Ordering::Relaxed);
        self.join(started)
    }

    fn await_count(
        &self,
        path: &str,
        count: fn(&Value) -> Option<usize>,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        let mut last = 0;
        while start.elapsed() < PATIENCE {
            let answer = http::send(self.host.url(), &Request::get(path), &AtomicBool::new(false))?;
            last = count(&answer).with_context(|| format!("{path} does not tell"))?;
            if wanted(last) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{path} never told of the wanted number, last of {last}")
    }

    fn restart(&mut self, gently: bool, how: &Restart) -> Result<()> {
        let mut start = Start::of(self.scenario, self.fixtures)?;
        if let Some(model) = &how.model {
            start.model = host::model_path(model, self.fixtures)?;
        }
        if let Some(flags) = &how.flags {
            start.flags = flags;
        }
        self.host.restart(&start, gently)
    }

    fn damage(&self, damage: &Damage) -> Result<()> {
        let (host, file) = (&self.host, &damage.file);
        match &damage.how {
            DamageKind::Remove(_) => host.remove(file),
            DamageKind::Write(text) => host.write(file, text.as_bytes()),
            DamageKind::Place(name) => {
                let from = self.scenario.folder.join(name);
                let bytes =
                    std::fs::read(&from).with_context(|| format!("cannot read '{}'", from.display()))?;
                host.write(file, &bytes)
            }
            DamageKind::Folder(_) => host.make_folder(file),
            DamageKind::Cut(cut) => {
                let bytes = host.read(file)?;
                host.write(file, &bytes[..bytes.len().saturating_sub(*cut)])
            }
            DamageKind::FlipMiddle(_) => {
                let mut bytes = host.read(file)?;
                let middle = bytes.len() / 2;
                *bytes.get_mut(middle).context("the file is empty")? ^= 0xff;
                host.write(file, &bytes)
            }
        }
    }

    fn move_slot(&mut self, movement: &MoveSlot) -> Result<Value> {
        let [from, to] = self.sides(movement.to)?;
        http::move_slot((from.url(), movement.from_slot), (to.url(), movement.to_slot))
    }

    /// Where a request goes.
    fn url_for(&mut self, request: &Request) -> Result<&str> {
        if !request.peer {
            return Ok(self.host.url());
        }
        let [peer, _] = self.sides(Side::Host)?;
        Ok(peer.url())
    }

    /// The giving and the taking side; the peer starts when it is first needed.
    fn sides(&mut self, to: Side) -> Result<[&dyn Host; 2]> {
        let peer = match self.peer.take() {
            Some(peer) => peer,
            None => Hosts::start_peer(&Start::of(self.scenario, self.fixtures)?)?,
        };
        let (peer, host) = (&**self.peer.insert(peer), &*self.host);
        Ok(if to == Side::Host { [peer, host] } else { [host, peer] })
    }
}

fn busy_slots(answer: &Value) -> Option<usize> {
    Some(answer["body"].as_array()?.iter().filter(|slot| slot["is_processing"] == true).count())
}

fn deferred_requests(answer: &Value) -> Option<usize> {
    answer["metrics"]["llamacpp:requests_deferred"].as_f64().map(|count| count as usize)
}

fn stored_blocks(answer: &Value) -> Option<usize> {
    answer["metrics"]["reprise:cache_disk_blocks"].as_f64().map(|count| count as usize)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
