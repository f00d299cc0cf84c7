//! Hosts that are processes: a server with a scenario's flags on a free port, its slot files in a folder.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::host::{Host, Start};
use super::target::Target;

/// Longest time that a server may take to load or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(super) struct Process {
    target: Target,
    child: Child,
    url: String,
    folders: Folders,
    log: tempfile::NamedTempFile,
}

/// What stays over its restarts.
struct Folders {
    slots: tempfile::TempDir,
    blocks: tempfile::TempDir,
}

impl Process {
    pub(super) fn start(target: Target, start: &Start<'_>) -> Result<Self> {
        let folders = Folders { slots: tempfile::tempdir()?, blocks: tempfile::tempdir()? };
        let log = tempfile::NamedTempFile::new()?;
        let (child, url) = launch(target, start, &folders, &log)?;
        let mut server = Self { target, child, url, folders, log };
        server.wait_until_healthy()?;
        Ok(server)
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

    fn file(&self, name: &str) -> PathBuf {
        self.folders.slots.path().join(name)
    }
}

impl Host for Process {
    fn url(&self) -> &str {
        &self.url
    }

    fn restart(&mut self, start: &Start<'_>, gently: bool) -> Result<()> {
        if gently {
            terminate(&self.child)?;
            let begin = Instant::now();
            while self.child.try_wait()?.is_none() && begin.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.stop();
        (self.child, self.url) = launch(self.target, start, &self.folders, &self.log)?;
        self.wait_until_healthy()
    }

    fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.file(file))?)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        Ok(fs::write(self.file(file), bytes)?)
    }

    fn remove(&self, file: &str) -> Result<()> {
        Ok(fs::remove_file(self.file(file))?)
    }

    fn make_folder(&self, file: &str) -> Result<()> {
        Ok(fs::create_dir(self.file(file))?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(
    target: Target,
    start: &Start<'_>,
    folders: &Folders,
    log: &tempfile::NamedTempFile,
) -> Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let binary = target.binary()?;
    let mut command = Command::new(&binary);
    command.arg("--model").arg(&start.model).args(["--port", &port.to_string(), "--threads", "1"]);
    command.args(start.flags);
    if target == Target::LlamaServer {
        // Its flash attention sums in half precision, which is enough to change a sampled text. Without it attention is
        // computed in single precision, as ours is.
        command.args(["--flash-attn", "off"]).args(start.reference_flags);
    }
    if start.slot_files {
        command.arg("--slot-save-path").arg(folders.slots.path());
    }
    if start.block_cache {
        command.arg("--cache-path").arg(folders.blocks.path());
    }
    command.envs(start.environment);
    let output = log.reopen()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let child = command.spawn().with_context(|| format!("cannot start '{}'", binary.display()))?;
    Ok((child, format!("http://127.0.0.1:{port}")))
}

/// SIGTERM, through the system's own `kill`: the standard library only knows SIGKILL.
fn terminate(child: &Child) -> Result<()> {
    Command::new("kill").arg(child.id().to_string()).status().context("cannot run kill")?;
    Ok(())
}
