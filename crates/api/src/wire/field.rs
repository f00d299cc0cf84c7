//! Reading single fields with the reference's rules and error texts.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::ApiError;

/// The fields of a request, read by name.
///
/// A field that is null counts as absent. Where a field has aliases, the first one present wins and is the one that
/// an error names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The first of `names` that is present, with its name.
    pub(crate) fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let present = |name: &&'n str| self.0.get(*name).filter(|value| !value.is_null()).map(|v| (*name, v));
        names.iter().find_map(present)
    }

    /// Reads a field; `read` gives the reason when it cannot.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] that names the field.
    pub(crate) fn read<T>(
        &self,
        names: &[&str],
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        read(value).map(Some).map_err(|reason| ApiError::Invalid(format!("Field '{name}': {reason}")))
    }

    /// A flag.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when it is no boolean.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        Ok(self.read(&[name], boolean)?.unwrap_or(default))
    }

    /// A whole number within hard limits.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when it is no number or out of the limits.
    pub(crate) fn whole<T: TryFrom<i128>>(
        &self,
        names: &[&str],
        limits: RangeInclusive<i128>,
        default: T,
    ) -> Result<T, ApiError> {
        let value = self.read(names, |value| within(integer(value)?, &limits))?;
        Ok(value.and_then(|value| T::try_from(value).ok()).unwrap_or(default))
    }

    /// A whole number that is moved into its limits.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when it is no number.
    pub(crate) fn clamped(&self, names: &[&str], limits: (i32, i32), default: i32) -> Result<i32, ApiError> {
        let (low, high) = limits;
        let value = self.read(names, integer)?.map(|value| value.clamp(low.into(), high.into()));
        Ok(value.and_then(|value| i32::try_from(value).ok()).unwrap_or(default))
    }

    /// A number that is moved into its limits.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when it is no number.
    pub(crate) fn real(&self, name: &str, limits: (f32, f32), default: f32) -> Result<f32, ApiError> {
        Ok(self.read(&[name], float)?.map_or(default, |value| value.clamp(limits.0, limits.1)))
    }

    /// A field of a kind that falls back to its default when it has another type (the reference's `json_value`).
    pub(crate) fn lenient<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        self.find(&[name]).and_then(|(_, value)| read(value).ok())
    }
}

/// No limits on a real number.
pub(crate) const ANY_REAL: (f32, f32) = (f32::MIN, f32::MAX);

/// Limits of a non-negative 32-bit number.
pub(crate) const NATURAL: RangeInclusive<i128> = 0..=i32::MAX as i128;

/// Limits of a non-negative 32-bit number that has -1 as "unlimited" or "off".
pub(crate) const NATURAL_OR_OFF: RangeInclusive<i128> = -1..=i32::MAX as i128;

/// Any number as a whole one: fractions are cut off, `true` is one.
pub(crate) fn integer(value: &Value) -> Result<i128, String> {
    match value {
        Value::Bool(value) => Ok(i128::from(*value)),
        value => number(value),
    }
}

/// Any number as a whole one, but no boolean.
pub(crate) fn number(value: &Value) -> Result<i128, String> {
    let Value::Number(number) = value else { return Err(type_error("number", value)) };
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    // A float is cut towards zero and saturates; JSON has no NaN.
    Ok(whole.unwrap_or_else(|| number.as_f64().unwrap_or_default() as i128))
}

/// Any number, as near as a finite `f32` comes to it.
pub(crate) fn float(value: &Value) -> Result<f32, String> {
    let wide = match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        other => return Err(type_error("number", other)),
    };
    Ok((wide as f32).clamp(f32::MIN, f32::MAX))
}

/// A boolean.
pub(crate) fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| type_error("boolean", value))
}

/// A string.
pub(crate) fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| type_error("string", value))
}

/// An array of strings.
pub(crate) fn strings(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| type_error("array", value))?;
    items.iter().map(|item| string(item).map(str::to_owned)).collect()
}

/// The body as an object.
pub(crate) fn object(value: &Value) -> Result<&Map<String, Value>, ApiError> {
    value.as_object().ok_or_else(|| {
        let found = type_name(value);
        ApiError::Invalid(format!("[json.exception.type_error.304] cannot use at() with {found}"))
    })
}

/// A field that must be there, null or not.
pub(crate) fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, ApiError> {
    fields.get(name).ok_or_else(|| ApiError::Invalid(missing(name)))
}

/// Checks a hard limit.
pub(crate) fn within(value: i128, limits: &RangeInclusive<i128>) -> Result<i128, String> {
    if limits.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (limits.start(), limits.end());
    Err(format!("Value must be between {low} <= value <= {high}, but got {value}"))
}

/// The text of a missing key.
pub(crate) fn missing(name: &str) -> String {
    format!("[json.exception.out_of_range.403] key '{name}' not found")
}

/// The text of a wrong type.
pub(crate) fn type_error(wanted: &str, found: &Value) -> String {
    let found = type_name(found);
    format!("[json.exception.type_error.302] type must be {wanted}, but is {found}")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.expect_err("an error").to_string()
    }

    #[test]
    fn hard_limits_and_types_are_named_as_the_reference_does() {
        let body =
            json!({"n_predict": -2, "n_keep": "x", "n": 3.9, "top": 1e300, "on": 1, "off": null, "t": true});
        let fields = Fields(body.as_object().unwrap());
        assert_eq!(
            error(fields.whole::<i32>(&["n_predict", "max_tokens"], NATURAL_OR_OFF, 0)),
            "Field 'n_predict': Value must be between -1 <= value <= 2147483647, but got -2"
        );
        assert_eq!(
            error(fields.whole::<i32>(&["n_keep"], NATURAL, 0)),
            "Field 'n_keep': [json.exception.type_error.302] type must be number, but is string"
        );
        assert_eq!(
            error(fields.flag("on", false)),
            "Field 'on': [json.exception.type_error.302] type must be boolean, but is number"
        );
        assert_eq!(fields.whole(&["missing", "n"], NATURAL, 7).unwrap(), 3);
        assert_eq!(fields.whole(&["off"], NATURAL, 7).unwrap(), 7);
        assert_eq!(fields.whole(&["t"], NATURAL, 7).unwrap(), 1);
        assert!(error(fields.whole::<i32>(&["top"], NATURAL, 0)).contains("but got 1"));
    }

    #[test]
    fn soft_limits_clamp() {
        let body = json!({"a": -5, "b": 1e39, "c": -1.5, "d": 99_999_999_999_i64});
        let fields = Fields(body.as_object().unwrap());
        assert_eq!(fields.clamped(&["a"], (0, i32::MAX), 40).unwrap(), 0);
        assert_eq!(fields.clamped(&["d"], (0, i32::MAX), 40).unwrap(), i32::MAX);
        assert_eq!(fields.real("b", ANY_REAL, 0.0).unwrap(), f32::MAX);
        assert_eq!(fields.real("c", (0.0, 1.0), 0.5).unwrap(), 0.0);
        assert_eq!(fields.real("none", (0.0, 1.0), 0.5).unwrap(), 0.5);
    }

    #[test]
    fn bodies_that_are_no_objects_say_so() {
        for (body, found) in
            [(json!([]), "array"), (json!(5), "number"), (json!("x"), "string"), (json!(null), "null")]
        {
            assert_eq!(
                error(object(&body)),
                format!("[json.exception.type_error.304] cannot use at() with {found}")
            );
        }
        assert_eq!(
            error(required(&Map::new(), "prompt")),
            "[json.exception.out_of_range.403] key 'prompt' not found"
        );
    }
}
