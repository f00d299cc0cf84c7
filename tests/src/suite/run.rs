//! Running one scenario against one server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::check::{self, Expected};
use super::http;
use super::scenario::{Action, Damage, DamageKind, Request, Scenario, Step};
use super::server::{self, Server, Target};
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
pub fn run(scenario: &Scenario, target: Target, fixtures: &Path, recording: bool) -> Result<Outcome> {
    if scenario.ours_only && target == Target::LlamaServer {
        return Ok(Outcome::Skipped("only ours can run it"));
    }
    if !server::has_model(&scenario.model, fixtures) {
        return Ok(Outcome::Skipped("REPRISE_MODELS names no folder with its model"));
    }
    ensure!(!recording || target == Target::LlamaServer, "expected values come from llama-server only");
    let file = scenario.folder.join("expected.json");
    let expected = if recording { None } else { Some(Expected::load(&file, scenario.ours_only)?) };
    let (faults, recorded) = match Play::begin(scenario, target, fixtures) {
        Ok(play) => play.play_out(expected.as_ref(), target == Target::Native),
        Err(error) => (vec![format!("{error:#}")], Expected::default()),
    };
    if recording && faults.is_empty() {
        recorded.store(&file)?;
        return Ok(Outcome::Recorded);
    }
    Ok(match (&scenario.known_failure, faults.is_empty()) {
        (Some(why), false) if target == Target::Native => Outcome::KnownFailure(why.clone()),
        (Some(_), true) if target == Target::Native => {
            Outcome::Failed(vec!["a known failure passes: remove `known_failure`".into()])
        }
        (_, true) => Outcome::Passed,
        (_, false) => Outcome::Failed(faults),
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
    server: Server,
    running: BTreeMap<String, Running>,
    answers: Answers,
}

impl<'a> Play<'a> {
    fn begin(scenario: &'a Scenario, target: Target, fixtures: &'a Path) -> Result<Self> {
        let server = Server::start(target, scenario, fixtures)?;
        Ok(Self { scenario, fixtures, server, running: BTreeMap::new(), answers: Answers::new() })
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
        if !self.server.alive() {
            faults.push("the server died".to_owned());
        }
        if !faults.is_empty() {
            faults.push(format!("log of the server:\n{}", tail(&self.server.log(), 30)));
        }
        (faults, recorded)
    }

    /// Does a step; steps without an answer of their own give null.
    fn act(&mut self, name: &str, action: &Action) -> Result<Value> {
        let mut answer = Value::Null;
        match action {
            Action::Request(request) => {
                answer = http::send(&self.server.url, &self.filled(request)?, &AtomicBool::new(false))?;
            }
            Action::Background(request) => self.start(name, request)?,
            Action::Join(started) => answer = self.join(started)?,
            Action::Cancel(started) => answer = self.cancel(started)?,
            Action::AwaitBusy(count) => self.await_count("/slots", *count, busy_slots)?,
            Action::AwaitDeferred(count) => self.await_count("/metrics", *count, deferred_requests)?,
            Action::Restart(how) => self.restart(true, how.model.as_deref(), how.flags.as_deref())?,
            Action::Kill(how) => self.restart(false, how.model.as_deref(), how.flags.as_deref())?,
            Action::Damage(damage) => self.damage(damage)?,
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
        Ok(Request { json, ..request.clone() })
    }

    fn start(&mut self, name: &str, request: &Request) -> Result<()> {
        let (url, request) = (self.server.url.clone(), self.filled(request)?);
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

    fn await_count(&self, path: &str, wanted: usize, count: fn(&Value) -> Option<usize>) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let answer = http::send(&self.server.url, &Request::get(path), &AtomicBool::new(false))?;
            if count(&answer).with_context(|| format!("{path} does not tell"))? == wanted {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{path} never told of {wanted} of them")
    }

    fn restart(&mut self, gently: bool, model: Option<&str>, flags: Option<&[String]>) -> Result<()> {
        self.server.restart(self.scenario, self.fixtures, gently, model, flags)
    }

    fn damage(&self, damage: &Damage) -> Result<()> {
        let file = self.server.slots.path().join(&damage.file);
        match &damage.how {
            DamageKind::Remove(_) => fs::remove_file(&file)?,
            DamageKind::Write(text) => fs::write(&file, text)?,
            DamageKind::Folder(_) => fs::create_dir(&file)?,
            DamageKind::Cut(bytes) => {
                let file = fs::OpenOptions::new().write(true).open(&file)?;
                file.set_len(file.metadata()?.len().saturating_sub(*bytes))?;
            }
            DamageKind::FlipMiddle(_) => {
                let mut bytes = fs::read(&file)?;
                let middle = bytes.len() / 2;
                *bytes.get_mut(middle).context("the file is empty")? ^= 0xff;
                fs::write(&file, bytes)?;
            }
        }
        Ok(())
    }
}

fn busy_slots(answer: &Value) -> Option<usize> {
    Some(answer["body"].as_array()?.iter().filter(|slot| slot["is_processing"] == true).count())
}

fn deferred_requests(answer: &Value) -> Option<usize> {
    answer["metrics"]["llamacpp:requests_deferred"].as_f64().map(|count| count as usize)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
