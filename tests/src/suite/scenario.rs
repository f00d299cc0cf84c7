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

use super::step::{Action, Step};
use super::target::KnownFailure;
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
    /// It gets a place for blocks of the prompt cache that outlive it, empty at first; only ours can.
    #[serde(default)]
    pub block_cache: bool,
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
    /// Why it does not pass, everywhere (`known_failure = "..."`) or on a target (`known_failure.browser-wasm = "..."`,
    /// `known_failure.browser` for both of a browser's). A known failure that passes is a failure.
    #[serde(default)]
    pub known_failure: Option<KnownFailure>,
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

fn near_tie() -> f64 {
    0.05
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
        ensure!(!self.block_cache || self.ours_only, "llama-server stores no blocks: it needs `ours_only`");
        self.known_failure.as_ref().map_or(Ok(()), KnownFailure::validate)?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::step::Request;
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
