//! The servers under test: started, waited for, stopped.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// Longest time that a server may take to load.
const PATIENCE: Duration = Duration::from_secs(120);

/// From one question whether it is healthy to the next: the time to the first token is measured, too.
const INTERVAL: Duration = Duration::from_millis(2);

/// A running server; dropping it stops it.
pub(super) struct Server {
    child: Child,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

impl Server {
    /// Starts `binary` on a free port with the flags that both servers know, and waits until it is healthy.
    pub(super) fn start(binary: &Path, model: &Path, threads: usize, flags: &[&str]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(binary)
            .arg("--model")
            .arg(model)
            .args(["--port", &port.to_string(), "--threads", &threads.to_string()])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start '{}'", binary.display()))?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        server.wait_until_healthy().with_context(|| format!("'{}' did not come up", binary.display()))?;
        Ok(server)
    }

    /// The most memory that the process had, bytes, mapped files included; `None` where the system does not tell.
    pub(super) fn peak_memory(&self) -> Result<Option<u64>> {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())) else {
            return Ok(None);
        };
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Some(kib * 1024))
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(mut self) -> Result<()> {
        // The standard library knows the other signal only.
        process::output(Command::new("kill").arg(self.child.id().to_string()))?;
        self.child.wait()?;
        Ok(())
    }

    /// A gauge or counter of `GET /metrics`, by its whole name.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let text = ureq::get(format!("{}/metrics", self.url)).call()?.body_mut().read_to_string()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("there is no metric {name}"))?.parse().context("a metric is no number")
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("it exited with {status}");
            }
            if ureq::get(format!("{}/health", self.url)).call().is_ok() {
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
        }
        bail!("no answer within {PATIENCE:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that is already gone needs no stopping.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
