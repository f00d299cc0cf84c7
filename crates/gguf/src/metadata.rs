//! The key-value part of a GGUF file, behind getters that name the key when its type is wrong.

use std::collections::BTreeMap;

use crate::{GgufError, Value};

/// Metadata of a model file: hyper-parameters, vocabulary, chat template.
///
/// Each getter has an `opt_` twin that answers `None` when the key is missing. A key of the wrong type is an error in
/// both: a file that says something unexpected must not be read as if it said nothing.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Metadata of these pairs; of equal keys the last one stays.
    pub fn new(pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self { values: pairs.into_iter().collect() }
    }

    /// `general.architecture`, which prefixes the architecture's own keys.
    ///
    /// # Errors
    /// [`GgufError`] when the key is missing or not a string.
    pub fn architecture(&self) -> Result<&str, GgufError> {
        self.string("general.architecture")
    }

    /// Whether the file has the key, whatever its type.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The value as GGUF stores it.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn scalar<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(GgufError::KeyType { key: key.to_owned(), wanted, found: describe(value) }),
        }
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let mismatch = |found| GgufError::KeyType { key: key.to_owned(), wanted, found };
        let Value::Array(elements) = value else { return Err(mismatch(describe(value))) };
        elements
            .iter()
            .enumerate()
            .map(|(index, element)| {
                convert(element).ok_or_else(|| mismatch(format!("{} at index {index}", describe(element))))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// Writes a getter and its `opt_` twin.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $opt:ident: $result:ty = $read:ident($wanted:literal, $convert:expr);)*) => {
        impl Metadata {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`GgufError::MissingKey`] or [`GgufError::KeyType`].
                pub fn $name(&self, key: &str) -> Result<$result, GgufError> {
                    self.$opt(key)?.ok_or_else(|| GgufError::MissingKey(key.to_owned()))
                }

                $(#[$doc])*
                ///
                /// # Errors
                /// [`GgufError::KeyType`].
                pub fn $opt(&self, key: &str) -> Result<Option<$result>, GgufError> {
                    self.$read(key, $wanted, $convert)
                }
            )*
        }
    };
}

getters! {
    /// A string.
    string, opt_string: &str = scalar("a string", as_str);
    /// A whole number of any integer type that fits.
    u32, opt_u32: u32 = scalar("a whole number from 0 to 4294967295", as_u32);
    /// A floating-point number (an `f64` is rounded).
    f32, opt_f32: f32 = scalar("a floating-point number", as_f32);
    /// A truth value.
    bool, opt_bool: bool = scalar("a truth value", as_bool);
    /// An array of strings.
    strings, opt_strings: Vec<&str> = array("an array of strings", as_str);
    /// An array of whole numbers of any integer type that fits.
    u32s, opt_u32s: Vec<u32> = array("an array of whole numbers from 0 to 4294967295", as_u32);
    /// An array of floating-point numbers.
    f32s, opt_f32s: Vec<f32> = array("an array of floating-point numbers", as_f32);
    /// An array of truth values.
    bools, opt_bools: Vec<bool> = array("an array of truth values", as_bool);
}

fn as_str(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => Some(n),
        Value::U64(n) => n.try_into().ok(),
        Value::I8(n) => n.try_into().ok(),
        Value::I16(n) => n.try_into().ok(),
        Value::I32(n) => n.try_into().ok(),
        Value::I64(n) => n.try_into().ok(),
        _ => None,
    }
}

fn as_f32(value: &Value) -> Option<f32> {
    match *value {
        Value::F32(x) => Some(x),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "rounding is what a reader of an f64 as f32 asks for"
        )]
        Value::F64(x) => Some(x as f32),
        _ => None,
    }
}

fn as_bool(value: &Value) -> Option<bool> {
    match *value {
        Value::Bool(b) => Some(b),
        _ => None,
    }
}

/// The type of a value in an operator's words, and the value where it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::U8(n) => format!("the u8 {n}"),
        Value::I8(n) => format!("the i8 {n}"),
        Value::U16(n) => format!("the u16 {n}"),
        Value::I16(n) => format!("the i16 {n}"),
        Value::U32(n) => format!("the u32 {n}"),
        Value::I32(n) => format!("the i32 {n}"),
        Value::U64(n) => format!("the u64 {n}"),
        Value::I64(n) => format!("the i64 {n}"),
        Value::F32(x) => format!("the f32 {x}"),
        Value::F64(x) => format!("the f64 {x}"),
        Value::Bool(b) => format!("the truth value {b}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(elements) => format!("an array of {} elements", elements.len()),
    }
}
