//! What a step of a scenario does, and what its answer is held to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::scenario::Defaults;

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
    /// Generated text, equal to the recorded up to llama-server's first near-tie ([`Scenario::near_tie`](super::scenario::Scenario::near_tie)); the request must ask for `n_probs` of
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
    /// Waits until `/metrics` shows at least so many stored blocks; the server needs `--metrics`.
    AwaitStored(usize),
    /// Stops the server and starts it again with the same flags and slot files.
    Restart(Restart),
    /// Kills the server without warning and starts it again.
    Kill(Restart),
    /// Damages a slot file.
    Damage(Damage),
    /// Moves a slot between the host and its peer: what `GET /slots/{id}/state` of one gives goes to the other's `PUT`,
    /// whose answer the step has.
    MoveSlot(MoveSlot),
    /// Copies a slot file between the host and its peer.
    CopyFile(CopyFile),
}

/// One of the two hosts of a scenario. A peer is a server of ours, whatever the target; it starts, with the same model
/// and flags, at the first step that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The one under test.
    Host,
    /// The other.
    Peer,
}

/// Where a slot goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveSlot {
    /// Which host takes it; the other one gives it.
    pub to: Side,
    /// Slot on the giving side.
    pub from_slot: u32,
    /// Slot on the taking side.
    pub to_slot: u32,
}

/// Where a slot file goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyFile {
    /// Which host gets it.
    pub to: Side,
    /// Its name on both.
    pub file: String,
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
    /// Sent to the peer.
    #[serde(default)]
    pub peer: bool,
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
    Cut(usize),
    /// Flips every bit of the byte in the middle.
    FlipMiddle(bool),
    /// Replaces it with a text.
    Write(String),
    /// Replaces it with a file of the scenario's folder.
    Place(String),
    /// Makes a folder of its name.
    Folder(bool),
    /// Removes it.
    Remove(bool),
}

fn post() -> String {
    "POST".to_owned()
}

impl Step {
    /// Whether its answer is held to anything.
    pub(super) fn checks(&self) -> bool {
        self.compares() || !self.ours.is_empty()
    }

    /// Whether anything of it is recorded.
    pub(super) fn compares(&self) -> bool {
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
            peer: false,
            headers: BTreeMap::new(),
            json: None,
            raw: None,
            abort_after: None,
            leave_after_ms: None,
        }
    }

    /// Takes the defaults if it names no path; whether it did.
    pub(super) fn share(&mut self, defaults: &Defaults) -> bool {
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
