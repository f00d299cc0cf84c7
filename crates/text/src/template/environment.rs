//! The Jinja environment that chat templates are written for: Hugging Face's, in the reference's reading of it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value as Jinja};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{LocalTime, python};
use crate::TextError;

/// The variable that carries the host's time to `strftime_now`. No template can name it.
pub(super) const NOW: &str = " now";

/// Work a template may do, in the engine's units: an instruction, or 64 bytes of text made. Templates come from files;
/// one that never ends must end as an error. A conversation of a thousand messages of 4 KB takes 400 thousand.
const FUEL: u64 = 10_000_000;

/// The only template of the environment.
const NAME: &str = "chat";

/// An environment with this template in it.
pub(super) fn with_template(source: &str) -> Result<Environment<'static>, TextError> {
    let mut environment = Environment::new();
    // The last line feed of a template is part of the prompt, as the reference has it.
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| refusal(&error))?);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(print);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Jinja| python::text(value));
    environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|error| refusal(&error))?;
    Ok(environment)
}

/// Renders the template with JSON variables.
pub(super) fn render(
    environment: &Environment<'_>,
    variables: &Map<String, Value>,
) -> Result<String, TextError> {
    render_with(environment, &Jinja::from(Serde(variables)))
}

/// Renders the template with these variables.
pub(super) fn render_with(environment: &Environment<'_>, variables: &Jinja) -> Result<String, TextError> {
    environment
        .get_template(NAME)
        .and_then(|template| template.render(variables))
        .map_err(|error| refusal(&error))
}

/// The engine's message with its place; the text of `raise_exception` is the part that a client needs.
fn refusal(error: &Error) -> TextError {
    TextError::Template(error.to_string())
}

/// `{% generation %}` marks for training what the model said. It renders nothing, so the tags become conditions that
/// are always true, with their whitespace control kept.
fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end + 2);
        out.push_str(before);
        match tag[2..end].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

/// Prints what Python prints.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Jinja) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None if value.is_undefined() => minijinja::escape_formatter(out, state, value),
        None => out.write_str(&python::text(value)).map_err(Error::from),
    }
}

fn raise_exception(message: &str) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("Jinja Exception: {message}")))
}

fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let now = state.lookup(NOW).and_then(|now| now.as_i64()).unwrap_or_default();
    LocalTime(now).format(format).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now: bad format {format:?}"))
    })
}

/// `tojson` with the arguments of the filter of Hugging Face's `transformers`.
#[allow(clippy::needless_pass_by_value, reason = "the shape of a filter's arguments")]
fn tojson(value: &Jinja, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;

    let mut style = python::JsonStyle::new(indent, ensure_ascii.unwrap_or(false));
    if let Some([item, key]) = separators.as_deref() {
        style = style.separators(item, key);
    }
    let mut json = serde_json::to_value(value).map_err(bad_json)?;
    if sort_keys.unwrap_or(false) {
        json.sort_all_objects();
    }
    let mut bytes = Vec::new();
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, style)).map_err(bad_json)?;
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn bad_json(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, error.to_string())
}

#[cfg(test)]
mod tests;
