//! Starts the server's binary for a test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file uses a part

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::fixtures::Fixture;
use serde_json::Value;

/// A server about to be started on a free port.
pub struct Launch(Command);

/// A running server. Dropping it kills it.
pub struct Running {
    pub child: Child,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

impl Launch {
    /// With these flags.
    pub fn new(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reprise-server"));
        command
            .args(["--port", "0", "--threads", "1"])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Self(command)
    }

    /// With a small generated model, written into `folder`.
    pub fn tiny(folder: &std::path::Path, flags: &[&str]) -> Self {
        let model = Fixture::LlamaSpm.write(folder).unwrap();
        Self::new(&[&["--model", model.to_str().unwrap()], flags].concat())
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Waits until it serves.
    pub fn healthy(mut self) -> Running {
        let mut child = self.0.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
            seen.push_str(&line);
            seen.push('\n');
            line.split_once("listening on ").map(|(_, url)| url.to_owned())
        });
        // Goes on reading, so that the server never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, url: url.unwrap_or_else(|| panic!("the server did not come up:\n{seen}")) }
    }

    /// Expects exit status 1; what it said.
    pub fn fails(mut self) -> String {
        let mut child = self.0.spawn().unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A server that is already gone needs no stopping.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts JSON and reads JSON.
pub fn post(url: &str, path: &str, body: &Value) -> Value {
    ureq::post(format!("{url}{path}")).send_json(body).unwrap().body_mut().read_json().unwrap()
}

/// Sends SIGTERM and waits for the end; the exit status.
pub fn terminate(running: &mut Running) -> Option<i32> {
    Command::new("kill").arg(running.child.id().to_string()).status().unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the server does not stop");
        std::thread::sleep(Duration::from_millis(10));
    }
}
