//! Hosts in a browser: `tests/bridge` runs Chromium and gives each engine a page and an address.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::host::{Host, Start};

/// The bridge's process, with its browsers. Dropping it ends them.
pub(super) struct Bridge {
    child: Child,
    control: Control,
}

impl Bridge {
    /// Starts the bridge for engines of a backend, with so many browsers.
    pub(super) fn start(backend: &str, browsers: usize) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bridge/bridge.mjs");
        let mut child = Command::new("node")
            .arg(&script)
            .args(["--backend", backend, "--browsers", &browsers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run node")?;
        let output = child.stdout.take().context("node has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let Some(url) = line.trim().strip_prefix("listening on ").map(str::to_owned) else {
            let status = child.wait()?;
            bail!("the bridge did not start ({status}); do its packages lack? (npm ci in tests/bridge)");
        };
        // A page may load a model for as long as it takes; the scenario's own requests have their limit.
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Ok(Self { child, control: Control { url, agent } })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // The end of its input ends it; it takes the browsers along.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The bridge's commands.
#[derive(Clone)]
struct Control {
    url: String,
    agent: ureq::Agent,
}

impl Control {
    fn call(&self, command: &str, arguments: &Value) -> Result<Value> {
        let mut response = self
            .agent
            .post(format!("{}/{command}", self.url))
            .send_json(arguments)
            .with_context(|| format!("the bridge's {command}"))?;
        let answer: Value = response.body_mut().with_config().limit(u64::from(u32::MAX)).read_json()?;
        match answer["error"].as_str() {
            Some(error) => Err(anyhow!("the bridge cannot {command}: {error}")),
            None => Ok(answer),
        }
    }
}

/// An engine in a page of its own.
pub(super) struct BrowserHost {
    control: Control,
    id: u64,
    url: String,
}

impl BrowserHost {
    pub(super) fn start(bridge: &Bridge, start: &Start<'_>) -> Result<Self> {
        let arguments = json!({
            "model": start.model,
            "flags": start.flags,
            "slots": start.slot_files,
            "blocks": start.block_cache,
            "environment": start.environment,
        });
        let answer = bridge.control.call("start", &arguments)?;
        let id = answer["id"].as_u64().context("the bridge gave no id")?;
        let url = answer["url"].as_str().context("the bridge gave no address")?.to_owned();
        Ok(Self { control: bridge.control.clone(), id, url })
    }

    fn state(&self) -> Result<Value> {
        self.control.call("state", &json!({"id": self.id}))
    }
}

impl Host for BrowserHost {
    fn url(&self) -> &str {
        &self.url
    }

    fn restart(&mut self, start: &Start<'_>, gently: bool) -> Result<()> {
        let arguments = json!({"id": self.id, "gently": gently, "model": start.model, "flags": start.flags});
        self.control.call("restart", &arguments)?;
        Ok(())
    }

    fn alive(&mut self) -> bool {
        self.state().is_ok_and(|state| state["alive"] == true)
    }

    fn log(&self) -> String {
        match self.state() {
            Ok(state) => state["log"].as_str().unwrap_or_default().to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let answer = self.control.call("read", &json!({"id": self.id, "name": file}))?;
        Ok(BASE64_STANDARD.decode(answer["bytes"].as_str().unwrap_or_default())?)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let bytes = BASE64_STANDARD.encode(bytes);
        self.control.call("write", &json!({"id": self.id, "name": file, "bytes": bytes}))?;
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<()> {
        self.control.call("remove", &json!({"id": self.id, "name": file}))?;
        Ok(())
    }

    fn make_folder(&self, file: &str) -> Result<()> {
        self.control.call("hollow", &json!({"id": self.id, "name": file}))?;
        Ok(())
    }
}

impl Drop for BrowserHost {
    fn drop(&mut self) {
        // The bridge may be gone, and the page with it.
        let _ = self.control.call("stop", &json!({"id": self.id}));
    }
}
