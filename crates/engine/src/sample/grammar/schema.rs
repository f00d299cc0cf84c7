//! Makes a JSON schema mean to `llguidance` what it means to llama-server.
//!
//! llama-server writes a grammar for the schema. In it a schema that names properties, items or a length is of the type
//! that has them; objects with named properties admit no others unless the schema says so; keywords that are not known
//! are ignored; and blanks inside a value are none, one space, or one or two line breaks with indentation.

use serde_json::{Map, Value, json};

/// Blanks between the parts of a value, as a regular expression.
const BLANKS: &str = r" |\n{1,2}[ \t]{0,20}";
/// Keywords that combine schemas. The parts see each other's properties as unnamed.
const COMBINATIONS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Parses a schema and adds what is implied.
///
/// # Errors
/// When the text is no JSON object.
pub(super) fn prepare(text: &str) -> Result<Value, String> {
    let mut schema: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if schema.is_empty() {
        schema.insert("type".to_owned(), json!("object"));
    }
    complete(&mut schema);
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": BLANKS, "lenient": true }));
    Ok(Value::Object(schema))
}

fn complete(schema: &mut Map<String, Value>) {
    let has = |key: &&str| schema.contains_key(*key);
    let combined = COMBINATIONS.iter().any(has);
    let named = has(&"properties");
    let open = ["additionalProperties", "patternProperties"].iter().any(has) || combined;
    if let Some(implied) = implied_type(schema) {
        schema.insert("type".to_owned(), json!(implied));
    }
    if named && !open {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(parts)) => {
                parts.values_mut().for_each(complete_part);
            }
            ("anyOf" | "oneOf", Value::Array(parts)) if !named => parts.iter_mut().for_each(complete_part),
            ("prefixItems" | "items", Value::Array(parts)) => parts.iter_mut().for_each(complete_part),
            ("items" | "additionalProperties", part) => complete_part(part),
            _ => {}
        }
    }
}

fn complete_part(part: &mut Value) {
    if let Value::Object(schema) = part {
        complete(schema);
    }
}

/// The type of a schema that names none, from the keywords that make sense for one type only.
fn implied_type(schema: &Map<String, Value>) -> Option<&'static str> {
    let has = |key: &&str| schema.contains_key(*key);
    if ["type", "$ref", "const", "enum"].iter().chain(&COMBINATIONS).any(has) {
        return None;
    }
    let of_objects =
        has(&"properties") || schema.get("additionalProperties").is_some_and(|extra| *extra != true);
    if of_objects {
        Some("object")
    } else if ["items", "prefixItems"].iter().any(has) {
        Some("array")
    } else if ["pattern", "minLength", "maxLength"].iter().any(has) {
        Some("string")
    } else {
        None
    }
}
