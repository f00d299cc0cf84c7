//! What a scenario is: a folder with `scenario.toml` (steps) and `expected.json` (recorded from llama-server).
//!
//! ```toml
//! summary = "The tokens of a prompt that are in the slot are not evaluated again"
//! model = "tiny-llama-spm.gguf"
//! flags = ["-np", "1", "-c", "256"]
//!
//! [texts]
//! A = "The river was cold in the morning."
//!
//! [defaults]
//! json = { n_predict = 4, temperature = 0 }
//! exact = ["status", "timings/cache_n"]
//!
//! [[steps]]
//! name = "the same again"
//! request.json = { prompt = "${A}" }
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::texts::Text;

/// A sequence of requests to one server, and what its answers are held to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Folder name; filled in by [`Scenario::load`].
    #[serde(skip)]
    pub name: String,
    /// Folder; filled in by [`Scenario::load`].
    #[serde(skip)]
    pub folder: PathBuf,
    /// What it shows, in a line.
    pub summary: String,
    /// Model: a generated fixture's name, or a real model's file name in `REPRISE_MODELS`.
    pub model: String,
    /// Flags of the server.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Further flags that only llama-server gets, where its default is another one than ours.
    #[serde(default)]
    pub reference_flags: Vec<String>,
    /// Environment of the server.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The server gets a fresh `--slot-save-path`.
    #[serde(default)]
    pub slot_files: bool,
    /// Two candidates whose log-probabilities are closer than this may change places: rounding decides between them.
    /// Quantised models need more than the default, because their activations are rounded to 8 bits.
    #[serde(default = "near_tie")]
    pub near_tie: f64,
    /// Why we answer otherwise than llama-server on purpose; then steps may have `ours`.
    #[serde(default)]
    pub difference: Option<String>,
    /// llama-server cannot run this (it crashes, hangs, or lacks it); all steps are held to `ours`.
    #[serde(default)]
    pub ours_only: bool,
    /// Why it does not pass yet. A known failure that passes is a failure.
    #[serde(default)]
    pub known_failure: Option<String>,
    /// Texts by name; `${name}` in a request stands for one.
    #[serde(default)]
    pub texts: BTreeMap<String, Text>,
    /// What most steps have in common.
    #[serde(default)]
    pub defaults: Defaults,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// What most requests of a scenario have in common. A request that names a path shares nothing with them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Path of requests that name none.
    pub path: String,
    /// Fields of their JSON bodies, where they do not have them.
    pub json: Value,
    /// Checks of these requests, and of joined ones, where the step names none itself.
    pub exact: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { path: "/completion".to_owned(), json: Value::Null, exact: Vec::new() }
    }
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the scenario; keys of `expected.json`.
    pub name: String,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// JSON pointers without the first slash (`timings/cache_n`, `events/0/content`) whose values are equal to the
    /// recorded ones. `status` and `headers/NAME` are there too.
    #[serde(default)]
    pub exact: Vec<String>,
    /// Numbers that are within a distance of the recorded ones.
    #[serde(default)]
    pub approx: BTreeMap<String, f64>,
    /// Values that have the recorded keys with values of the recorded types; ours may have further keys.
    #[serde(default)]
    pub shape: Vec<String>,
    /// Generated text, equal to the recorded up to llama-server's first near-tie ([`Scenario::near_tie`]); the request must ask for `n_probs` of
    /// at least 2.
    #[serde(default)]
    pub text: Option<String>,
    /// Values that we give on purpose, whatever llama-server gives.
    #[serde(default)]
    pub ours: BTreeMap<String, Value>,
}

/// What a step does. Exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A request; its answer is waited for.
    Request(Request),
    /// A request that runs while the next steps are done, until [`Action::Join`].
    Background(Request),
    /// Waits for the answer of a background request.
    Join(String),
    /// Leaves the stream of a background request at its next event; the answer has the events until then.
    Cancel(String),
    /// Waits until `/slots` shows so many busy slots.
    AwaitBusy(usize),
    /// Waits until `/metrics` shows so many requests that wait for a slot; the server needs `--metrics`.
    AwaitDeferred(usize),
    /// Stops the server and starts it again with the same flags and slot files.
    Restart(Restart),
    /// Kills the server without warning and starts it again.
    Kill(Restart),
    /// Damages a slot file.
    Damage(Damage),
}

/// An HTTP request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET`, `POST`, ...
    #[serde(default = "post")]
    pub method: String,
    /// Path and query; by default that of [`Defaults`].
    #[serde(default)]
    pub path: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON body.
    #[serde(default)]
    pub json: Option<Value>,
    /// Body as it stands, for what is not JSON.
    #[serde(default)]
    pub raw: Option<Raw>,
    /// The connection is dropped after so many events of the stream.
    #[serde(default)]
    pub abort_after: Option<usize>,
    /// The connection is dropped after so many milliseconds; the answer is `{"left": true}`.
    #[serde(default)]
    pub leave_after_ms: Option<u64>,
}

/// A body that is not JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Raw {
    /// A text.
    Text(String),
    /// Bytes, for what is not even a text.
    Bytes(Vec<u8>),
}

/// How a server is started again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Another model.
    #[serde(default)]
    pub model: Option<String>,
    /// Other flags.
    #[serde(default)]
    pub flags: Option<Vec<String>>,
}

/// What is done to a slot file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Name in the slot folder.
    pub file: String,
    /// How.
    #[serde(flatten)]
    pub how: DamageKind,
}

/// Ways to damage a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// Cuts so many bytes off its end.
    Cut(u64),
    /// Flips every bit of the byte in the middle.
    FlipMiddle(bool),
    /// Replaces it with a text.
    Write(String),
    /// Makes a folder of its name.
    Folder(bool),
    /// Removes it.
    Remove(bool),
}

fn near_tie() -> f64 {
    0.05
}

fn post() -> String {
    "POST".to_owned()
}

impl Scenario {
    /// Reads `folder/scenario.toml`.
    ///
    /// # Errors
    /// When the file is missing, or is not a scenario.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("scenario.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read '{}'", file.display()))?;
        let mut scenario: Self = toml::from_str(&text).with_context(|| format!("'{}'", file.display()))?;
        scenario.name =
            folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        folder.clone_into(&mut scenario.folder);
        scenario.share_defaults();
        scenario.validate().with_context(|| format!("'{}'", file.display()))?;
        Ok(scenario)
    }

    /// All scenarios below a folder, sorted by name.
    ///
    /// # Errors
    /// When one of them is not a scenario.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read '{}'", folder.display()))?;
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        folders.sort();
        folders.iter().map(|folder| Self::load(folder)).collect()
    }

    fn share_defaults(&mut self) {
        let defaults = &self.defaults;
        for step in &mut self.steps {
            let shares = match &mut step.action {
                Action::Request(request) => request.share(defaults),
                Action::Background(request) => {
                    request.share(defaults);
                    false
                }
                Action::Join(_) => true,
                _ => false,
            };
            if shares && !step.compares() && !self.ours_only {
                step.exact.clone_from(&defaults.exact);
            }
        }
    }

    fn validate(&self) -> Result<()> {
        ensure!(!self.steps.is_empty(), "it has no steps");
        let mut names = std::collections::BTreeSet::new();
        for step in &self.steps {
            ensure!(names.insert(&step.name), "two steps are called '{}'", step.name);
            ensure!(
                step.ours.is_empty() || self.difference.is_some() || self.ours_only,
                "step '{}' has values of ours, but the scenario names no difference",
                step.name
            );
        }
        ensure!(self.steps.iter().any(Step::checks), "no step checks anything");
        Ok(())
    }
}

impl Step {
    fn checks(&self) -> bool {
        self.compares() || !self.ours.is_empty()
    }

    /// Whether anything of it is recorded.
    fn compares(&self) -> bool {
        let empty = self.exact.is_empty() && self.approx.is_empty() && self.shape.is_empty();
        !empty || self.text.is_some()
    }
}

impl Request {
    /// A plain GET.
    pub(super) fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: BTreeMap::new(),
            json: None,
            raw: None,
            abort_after: None,
            leave_after_ms: None,
        }
    }

    /// Takes the defaults if it names no path; whether it did.
    fn share(&mut self, defaults: &Defaults) -> bool {
        if !self.path.is_empty() {
            return false;
        }
        self.path.clone_from(&defaults.path);
        if let (Some(Value::Object(own)), Value::Object(shared)) = (&mut self.json, &defaults.json) {
            for (key, value) in shared {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(steps: &str) -> Result<Scenario> {
        let folder = tempfile::tempdir()?;
        let head =
            "summary = \"s\"\nmodel = \"m\"\n[defaults]\njson = { n_predict = 4 }\nexact = [\"status\"]\n";
        fs::write(folder.path().join("scenario.toml"), format!("{head}{steps}"))?;
        Scenario::load(folder.path())
    }

    fn request(step: &Step) -> &Request {
        let Action::Request(request) = &step.action else { panic!("it is no request") };
        request
    }

    #[test]
    fn steps_share_defaults_unless_they_go_elsewhere() {
        let scenario = load(
            "[[steps]]\nname = \"a\"\nrequest.json = { prompt = \"x\" }\n\
             [[steps]]\nname = \"b\"\nrequest.json = { n_predict = 8 }\nexact = [\"content\"]\n\
             [[steps]]\nname = \"c\"\nrequest = { method = \"GET\", path = \"/slots\" }\n",
        )
        .unwrap();
        let [a, b, c] = &scenario.steps[..] else { panic!("three steps") };
        assert_eq!(request(a).path, "/completion");
        assert_eq!(request(a).json, Some(json!({"prompt": "x", "n_predict": 4})));
        assert_eq!(a.exact, ["status"]);
        assert_eq!(request(b).json, Some(json!({"n_predict": 8})));
        assert_eq!(b.exact, ["content"]);
        assert_eq!((&request(c).json, c.exact.len()), (&None, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |steps: &str| load(steps).is_err();
        assert!(refused("[[steps]]\nname = \"a\"\nrequests.json = {}\n"));
        assert!(refused("[[steps]]\nname = \"a\"\nrequest.json = {}\nexcat = [\"x\"]\n"));
        assert!(refused("[[steps]]\nname = \"a\"\nrequest.json = {}\nours = { a = 1 }\n"));
        assert!(refused("[[steps]]\nname = \"a\"\nawait_busy = 1\n"));
        let twice = "[[steps]]\nname = \"a\"\nrequest.json = {}\n";
        assert!(refused(&format!("{twice}{twice}")));
    }
}
