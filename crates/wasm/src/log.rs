//! Log lines and panics, handed to JavaScript.

use std::cell::RefCell;
use std::fmt::Write;

use js_sys::Function;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

thread_local! {
    /// Where lines go: the thread that called [`set_log`] is the one that logs.
    static SINK: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `sink(level, line)` for every line from now on; levels are `error`, `warn` and `info`.
#[wasm_bindgen]
pub fn set_log(sink: Function) {
    SINK.set(Some(sink));
}

/// Takes over tracing and panics.
pub(crate) fn start() {
    // Another subscriber is there only if the module was started twice: then it logs already.
    let _ = tracing::subscriber::set_global_default(Lines);
    std::panic::set_hook(Box::new(|info| line("error", &info.to_string())));
}

fn line(level: &str, text: &str) {
    let sink = SINK.with_borrow(Clone::clone);
    if let Some(sink) = sink {
        // A sink that throws loses its line.
        let _ = sink.call2(&JsValue::NULL, &level.into(), &text.into());
    }
}

/// Writes each event as one line; spans are not used in this project.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("reprise")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        line(level, &format!("{}{}", text.message, text.fields));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, and the other fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
