//! Holding an answer to what was recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::step::Step;

/// Recorded values of a step: JSON pointer to value.
pub type Recorded = Map<String, Value>;

/// Recorded values of a scenario, in the order of its steps; those that are held to nothing are left out.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Expected(Map<String, Value>);

impl Expected {
    /// Reads `expected.json`, which need not be there if `optional`.
    pub(super) fn load(file: &Path, optional: bool) -> Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("'{}'", file.display())),
            Err(_) if optional => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("'{}': record it first", file.display())),
        }
    }

    /// Writes `expected.json`.
    pub(super) fn store(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("'{}'", file.display()))
    }

    /// What a step is held to.
    pub(super) fn step(&self, name: &str) -> Recorded {
        self.0.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, name: &str, recorded: Recorded) {
        if !recorded.is_empty() {
            self.0.insert(name.to_owned(), recorded.into());
        }
    }
}

/// The part of an answer that a step's checks look at; the text of it up to the first near-tie.
pub(super) fn record(step: &Step, answer: &Value, near_tie: f64) -> Recorded {
    let mut recorded = Map::new();
    for path in step.exact.iter().chain(step.approx.keys()) {
        recorded.insert(path.clone(), lookup(answer, path).cloned().unwrap_or(Value::Null));
    }
    for path in &step.shape {
        recorded.insert(path.clone(), shape(lookup(answer, path).unwrap_or(&Value::Null)));
    }
    if let Some(path) = &step.text {
        recorded.insert(path.clone(), certain_text(answer, path, near_tie).into());
    }
    recorded
}

/// What differs between an answer and the recorded values, or in their place our own when the answer is ours; empty
/// when nothing does.
pub(super) fn faults(
    step: &Step,
    answer: &Value,
    recorded: &Recorded,
    ours: Option<&BTreeMap<String, Value>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let deliberate = |path: &String| ours.is_some_and(|ours| ours.contains_key(path));
    let found = |path: &str| lookup(answer, path).unwrap_or(&Value::Null);
    let mut compare = |path: &String, equal: &dyn Fn(&Value, &Value) -> bool, found: &Value| {
        if deliberate(path) {
            return;
        }
        let wanted = recorded.get(path).unwrap_or(&Value::Null);
        if !equal(wanted, found) {
            faults.push(format!("{}: {path} is {found}, not {wanted}", step.name));
        }
    };
    for path in &step.exact {
        compare(path, &equal, found(path));
    }
    for (path, distance) in &step.approx {
        let near = |wanted: &Value, found: &Value| match (wanted.as_f64(), found.as_f64()) {
            (Some(wanted), Some(found)) => (wanted - found).abs() <= *distance,
            _ => false,
        };
        compare(path, &near, found(path));
    }
    for path in &step.shape {
        compare(path, &has_shape, &shape(found(path)));
    }
    if let Some(path) = &step.text {
        let starts = |wanted: &Value, found: &Value| match (wanted.as_str(), found.as_str()) {
            (Some(wanted), Some(found)) => !wanted.is_empty() && found.starts_with(wanted),
            _ => false,
        };
        compare(path, &starts, found(path));
    }
    for (path, wanted) in ours.into_iter().flatten() {
        if !equal(wanted, found(path)) {
            faults.push(format!("{}: {path} is {}, not our {wanted}", step.name, found(path)));
        }
    }
    faults
}

/// Integers and floats of the same value are the same number.
fn equal(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => wanted == found,
    }
}

/// The value at a path of an answer; `events/last` is the last event of a stream.
pub(super) fn lookup<'a>(answer: &'a Value, path: &str) -> Option<&'a Value> {
    match path.strip_prefix("events/last") {
        Some(rest) => answer["events"].as_array()?.last()?.pointer(rest),
        None => answer.pointer(&format!("/{path}")),
    }
}

/// Keys and types of a value; arrays have the shape of their first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(elements) => Value::Array(elements.first().map(shape).into_iter().collect()),
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(sorted.into_iter().collect())
        }
    }
}

/// Whether a shape has all that the wanted one has.
fn has_shape(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| has_shape(wanted, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| has_shape(wanted, found))
        }
        _ => wanted == found,
    }
}

/// The generated text up to the first token where two candidates were nearly equal.
fn certain_text(answer: &Value, path: &str, near_tie: f64) -> String {
    let text = lookup(answer, path).and_then(Value::as_str).unwrap_or_default();
    let steps = answer["completion_probabilities"]
        .as_array()
        .or(answer["choices"][0]["logprobs"]["content"].as_array());
    let certain = steps.into_iter().flatten().take_while(|step| {
        let candidate = |i: usize| step["top_logprobs"][i]["logprob"].as_f64();
        matches!((candidate(0), candidate(1)), (Some(best), Some(second)) if best - second > near_tie)
    });
    let bytes: usize = certain.map(|step| step["bytes"].as_array().map_or(0, Vec::len)).sum();
    text.get(..bytes.min(text.len())).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(checks: &str) -> Step {
        toml::from_str(&format!("name = \"s\"\njoin = \"x\"\n{checks}")).unwrap()
    }

    #[test]
    fn a_wrong_count_is_a_fault() {
        let step = step("exact = [\"timings/cache_n\"]");
        let recorded = record(&step, &json!({"timings": {"cache_n": 35}}), 0.05);
        assert!(
            faults(&step, &json!({"timings": {"cache_n": 35.0}}), &recorded, Some(&step.ours)).is_empty()
        );
        assert_eq!(faults(&step, &json!({"timings": {"cache_n": 34}}), &recorded, Some(&step.ours)).len(), 1);
        assert_eq!(faults(&step, &json!({}), &recorded, Some(&step.ours)).len(), 1);
    }

    #[test]
    fn a_deliberate_difference_counts_only_for_us() {
        let step = step("exact = [\"a\"]\nours = { a = 2 }");
        let recorded = record(&step, &json!({"a": 1}), 0.05);
        assert!(faults(&step, &json!({"a": 2}), &recorded, Some(&step.ours)).is_empty());
        assert_eq!(faults(&step, &json!({"a": 1}), &recorded, Some(&step.ours)).len(), 1);
        assert!(faults(&step, &json!({"a": 1}), &recorded, None).is_empty());
    }

    #[test]
    fn shapes_are_keys_and_types() {
        let step = step("shape = [\"a\"]");
        let recorded = record(&step, &json!({"a": {"n": 1, "s": ["x"]}}), 0.05);
        assert!(
            faults(&step, &json!({"a": {"s": ["y", "z"], "n": 7}}), &recorded, Some(&step.ours)).is_empty()
        );
        assert!(
            faults(&step, &json!({"a": {"s": ["y"], "n": 7, "more": 1}}), &recorded, Some(&step.ours))
                .is_empty()
        );
        assert_eq!(faults(&step, &json!({"a": {"s": [1], "n": 7}}), &recorded, Some(&step.ours)).len(), 1);
        assert_eq!(faults(&step, &json!({"a": {"s": ["y"]}}), &recorded, Some(&step.ours)).len(), 1);
    }

    #[test]
    fn text_is_compared_up_to_a_near_tie() {
        let step = step("text = \"content\"");
        let token = |text: &str, second: f64| json!({"bytes": text.as_bytes(), "top_logprobs": [{"logprob": -0.5}, {"logprob": second}]});
        let oracle = json!({"content": "one two", "completion_probabilities": [token("one", -3.0), token(" two", -0.51)]});
        let recorded = record(&step, &oracle, 0.05);
        assert_eq!(recorded["content"], "one");
        assert!(faults(&step, &json!({"content": "one too"}), &recorded, Some(&step.ours)).is_empty());
        assert_eq!(faults(&step, &json!({"content": "two"}), &recorded, Some(&step.ours)).len(), 1);
    }
}
