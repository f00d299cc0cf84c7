//! What a scenario runs against, whether a process or an engine in a browser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::browser::{Bridge, BrowserHost};
use super::process::Process;
use super::scenario::Scenario;
use super::target::Target;

/// What a host is started with.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    pub(super) model: PathBuf,
    pub(super) flags: &'a [String],
    /// Flags that only llama-server gets.
    pub(super) reference_flags: &'a [String],
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) slot_files: bool,
    pub(super) block_cache: bool,
}

impl<'a> Start<'a> {
    /// As a scenario asks for; `fixtures` has the generated models.
    pub(super) fn of(scenario: &'a Scenario, fixtures: &Path) -> Result<Self> {
        Ok(Self {
            model: model_path(&scenario.model, fixtures)?,
            flags: &scenario.flags,
            reference_flags: &scenario.reference_flags,
            environment: &scenario.environment,
            slot_files: scenario.slot_files,
            block_cache: scenario.block_cache,
        })
    }
}

/// One engine that answers HTTP, and its slot files. Dropping it stops it.
pub(super) trait Host {
    /// Where it answers, without a slash at the end.
    fn url(&self) -> &str;
    /// Stops it, gently or without warning, and starts it again with the same slot files.
    fn restart(&mut self, start: &Start<'_>, gently: bool) -> Result<()>;
    /// Whether it has not crashed.
    fn alive(&mut self) -> bool;
    /// What it logged, for a report.
    fn log(&self) -> String;
    /// Bytes of a slot file.
    fn read(&self, file: &str) -> Result<Vec<u8>>;
    /// Writes a slot file past the host.
    fn write(&self, file: &str, bytes: &[u8]) -> Result<()>;
    /// Removes a slot file.
    fn remove(&self, file: &str) -> Result<()>;
    /// Puts something of this name there that is no file.
    fn make_folder(&self, file: &str) -> Result<()>;
}

/// Starts the hosts of a target; has what they share.
pub struct Hosts {
    target: Target,
    bridge: Option<Bridge>,
}

impl Hosts {
    /// Makes ready for a target, and for so many hosts at a time; for a browser's this starts the browser. On the GPU each
    /// job gets one of its own: a browser compiles the kernels of all its pages one after another.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open(target: Target, jobs: usize) -> Result<Self> {
        let browsers = if target == Target::BrowserWebGpu { jobs.max(1) } else { 1 };
        let bridge = target.browser_backend().map(|backend| Bridge::start(backend, browsers)).transpose()?;
        Ok(Self { target, bridge })
    }

    /// Whose hosts they are.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    pub(super) fn start(&self, start: &Start<'_>) -> Result<Box<dyn Host>> {
        Ok(match &self.bridge {
            Some(bridge) => Box::new(BrowserHost::start(bridge, start)?),
            None => Box::new(Process::start(self.target, start)?),
        })
    }

    /// A second host beside the one under test: our server.
    pub(super) fn start_peer(start: &Start<'_>) -> Result<Box<dyn Host>> {
        Ok(Box::new(Process::start(Target::Native, start)?))
    }
}

/// Whether a model is one that the run makes.
#[must_use]
pub fn is_generated(model: &str, fixtures: &Path) -> bool {
    fixtures.join(model).exists()
}

/// Whether a model is there: real ones need not be.
pub(super) fn has_model(model: &str, fixtures: &Path) -> bool {
    model_path(model, fixtures).is_ok_and(|path| path.exists())
}

/// A fixture, or a real model in `REPRISE_MODELS`.
pub(super) fn model_path(model: &str, fixtures: &Path) -> Result<PathBuf> {
    let fixture = fixtures.join(model);
    if fixture.exists() {
        return Ok(fixture);
    }
    let folder = std::env::var_os("REPRISE_MODELS").with_context(|| {
        format!("'{model}' is no fixture, and REPRISE_MODELS names no folder of real models")
    })?;
    Ok(PathBuf::from(folder).join(model))
}
