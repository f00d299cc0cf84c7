//! The servers that the suite runs against: started with a scenario's flags on a free port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::scenario::Scenario;

/// Longest time that a server may take to load or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `reprise-server`.
    Native,
    /// The llama-server that `LLAMA_SERVER` names: the oracle.
    LlamaServer,
}

impl Target {
    /// The binary: `REPRISE_SERVER`, or what stands beside this program; `LLAMA_SERVER`.
    ///
    /// # Errors
    /// When there is none.
    pub fn binary(self) -> Result<PathBuf> {
        match self {
            Self::Native => match std::env::var_os("REPRISE_SERVER") {
                Some(path) => Ok(path.into()),
                None => Ok(std::env::current_exe()?.with_file_name("reprise-server")),
            },
            Self::LlamaServer => Ok(std::env::var_os("LLAMA_SERVER")
                .context("LLAMA_SERVER must name a llama-server binary")?
                .into()),
        }
    }
}

/// A running server and its slot folder. Dropping it stops it.
pub(super) struct Server {
    target: Target,
    child: Child,
    pub(super) url: String,
    pub(super) slots: tempfile::TempDir,
    log: tempfile::NamedTempFile,
}

impl Server {
    /// Starts a server for a scenario; `fixtures` has the generated models.
    pub(super) fn start(target: Target, scenario: &Scenario, fixtures: &Path) -> Result<Self> {
        let slots = tempfile::tempdir()?;
        let log = tempfile::NamedTempFile::new()?;
        let (child, url) =
            launch(target, scenario, &scenario.model, &scenario.flags, fixtures, slots.path(), &log)?;
        let mut server = Self { target, child, url, slots, log };
        server.wait_until_healthy()?;
        Ok(server)
    }

    /// Stops it, gently or not, and starts it again with the same slot files.
    pub(super) fn restart(
        &mut self,
        scenario: &Scenario,
        fixtures: &Path,
        gently: bool,
        model: Option<&str>,
        flags: Option<&[String]>,
    ) -> Result<()> {
        if gently {
            terminate(&self.child)?;
            let start = Instant::now();
            while self.child.try_wait()?.is_none() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.stop();
        let model = model.unwrap_or(&scenario.model);
        let flags = flags.unwrap_or(&scenario.flags);
        (self.child, self.url) =
            launch(self.target, scenario, model, flags, fixtures, self.slots.path(), &self.log)?;
        self.wait_until_healthy()
    }

    /// What the server printed, for a report.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Whether the process still runs.
    pub(super) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server exited with {status}:\n{}", self.log());
            }
            if ureq::get(format!("{}/health", self.url)).call().is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server did not come up within {PATIENCE:?}:\n{}", self.log())
    }

    fn stop(&mut self) {
        // A server that is already gone needs no stopping.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(
    target: Target,
    scenario: &Scenario,
    model: &str,
    flags: &[String],
    fixtures: &Path,
    slots: &Path,
    log: &tempfile::NamedTempFile,
) -> Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let binary = target.binary()?;
    let mut command = Command::new(&binary);
    command.arg("--model").arg(model_path(model, fixtures)?).args([
        "--port",
        &port.to_string(),
        "--threads",
        "1",
    ]);
    command.args(flags);
    if target == Target::LlamaServer {
        // Its flash attention sums in half precision, which is enough to change a sampled text. Without it attention is
        // computed in single precision, as ours is.
        command.args(["--flash-attn", "off"]).args(&scenario.reference_flags);
    }
    if scenario.slot_files {
        command.arg("--slot-save-path").arg(slots);
    }
    command.envs(&scenario.environment);
    let output = log.reopen()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let child = command.spawn().with_context(|| format!("cannot start '{}'", binary.display()))?;
    Ok((child, format!("http://127.0.0.1:{port}")))
}

/// Whether a model is there: real ones need not be.
pub(super) fn has_model(model: &str, fixtures: &Path) -> bool {
    model_path(model, fixtures).is_ok_and(|path| path.exists())
}

/// A fixture, or a real model in `REPRISE_MODELS`.
fn model_path(model: &str, fixtures: &Path) -> Result<PathBuf> {
    let fixture = fixtures.join(model);
    if fixture.exists() {
        return Ok(fixture);
    }
    let folder = std::env::var_os("REPRISE_MODELS").with_context(|| {
        format!("'{model}' is no fixture, and REPRISE_MODELS names no folder of real models")
    })?;
    Ok(PathBuf::from(folder).join(model))
}

/// SIGTERM, through the system's own `kill`: the standard library only knows SIGKILL.
fn terminate(child: &Child) -> Result<()> {
    Command::new("kill").arg(child.id().to_string()).status().context("cannot run kill")?;
    Ok(())
}
