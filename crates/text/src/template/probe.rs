//! Variables that remember which of their parts a template looked at.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value as Jinja;
use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, ValueKind};
use serde_json::Value;

/// What a template looked at: paths like `messages/0/content`. A path that ends in [`Looks::ELEMENTS`] says that an
/// array's elements were wanted, by index or in a loop.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks(Arc<Mutex<BTreeSet<String>>>);

impl Looks {
    /// Ends the path of an array whose elements were looked at.
    pub(super) const ELEMENTS: &str = "/*";

    pub(super) fn note(&self, path: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into());
    }

    pub(super) fn at(&self, path: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Notes everything inside of a value, which the template wants as a whole.
    pub(super) fn note_whole(value: &Jinja) {
        if let Some(probe) = value.downcast_object_ref::<Probe>() {
            probe.looks.note_below(&probe.path, &probe.json);
        } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            value.try_iter().into_iter().flatten().for_each(|item| Self::note_whole(&item));
        }
    }

    fn note_below(&self, path: &str, json: &Value) {
        let note = |name: &str, json| {
            let path = format!("{path}/{name}");
            self.note(path.as_str());
            self.note_below(&path, json);
        };
        match json {
            Value::Object(object) => object.iter().for_each(|(name, json)| note(name, json)),
            Value::Array(array) => {
                array.iter().enumerate().for_each(|(index, json)| note(&index.to_string(), json));
            }
            _ => {}
        }
    }

    /// Wraps JSON so that looks into it are noted here.
    pub(super) fn wrap(&self, path: &str, json: &Value) -> Jinja {
        match json {
            Value::Object(_) | Value::Array(_) => {
                Jinja::from_object(Probe { path: path.to_owned(), json: json.clone(), looks: self.clone() })
            }
            plain => Jinja::from(Serde(plain)),
        }
    }
}

/// A JSON object or array under observation.
#[derive(Debug)]
struct Probe {
    path: String,
    json: Value,
    looks: Looks,
}

impl Probe {
    fn child(&self, name: &str, json: &Value) -> Jinja {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        self.looks.note(path.as_str());
        self.looks.wrap(&path, json)
    }

    fn note_elements(&self) {
        self.looks.note(self.path.clone() + Looks::ELEMENTS);
    }
}

impl Object for Probe {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.json.is_array() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match &self.json {
            Value::Object(object) => {
                let key = key.as_str()?;
                object.get(key).map(|json| self.child(key, json))
            }
            Value::Array(array) => {
                let index = key.as_usize()?;
                self.note_elements();
                array.get(index).map(|json| self.child(&index.to_string(), json))
            }
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &self.json {
            Value::Object(object) => {
                Enumerator::Values(object.keys().map(|key| Jinja::from(key.as_str())).collect())
            }
            Value::Array(array) => {
                self.note_elements();
                Enumerator::Seq(array.len())
            }
            _ => Enumerator::NonEnumerable,
        }
    }

    /// Asking for the length is not looking at the elements.
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match &self.json {
            Value::Object(object) => Some(object.len()),
            Value::Array(array) => Some(array.len()),
            _ => None,
        }
    }

    /// Nor is writing the whole as text, which filters do with what they do not expect.
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(f)
    }
}
