//! Stage 10: stop strings in a stream of text, with partial matches held back.

/// What [`StopMatcher::push`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StopOutcome {
    /// Text that may be sent on.
    pub emit: String,
    /// The stop string that was completed. Neither it nor anything after it is ever emitted.
    pub stopped: Option<String>,
}

/// Finds the first stop string in a text that arrives in pieces.
///
/// The earliest place wins, at the same place the stop string that was given first. While the end of the text could be
/// the beginning of a stop string, everything not yet emitted is held back, as llama-server does it: a client sees
/// whole pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// A matcher for these strings. Empty ones are dropped: they would stop every text before it starts.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes the next piece of text. After a stop string was found there is nothing more to emit.
    pub fn push(&mut self, text: &str) -> StopOutcome {
        if self.stopped {
            return StopOutcome::default();
        }
        // What was held has been searched, so a match ends in the new text.
        let longest = self.stops.iter().map(String::len).max().unwrap_or_default();
        let from = self.held.floor_char_boundary((self.held.len() + 1).saturating_sub(longest));
        self.held += text;
        let place = |stop: &String| Some(from + self.held[from..].find(stop.as_str())?);
        let found = self.stops.iter().filter_map(|stop| Some((place(stop)?, stop)));
        let first = found.min_by_key(|&(place, _)| place);
        if let Some((place, stop)) = first {
            let stop = stop.clone();
            self.stopped = true;
            let mut emit = std::mem::take(&mut self.held);
            emit.truncate(place);
            return StopOutcome { emit, stopped: Some(stop) };
        }
        if self.stops.iter().any(|stop| ends_with_start_of(&self.held, stop)) {
            return StopOutcome::default();
        }
        StopOutcome { emit: std::mem::take(&mut self.held), stopped: None }
    }

    /// Ends the text: what was held back was no stop string.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Whether the text ends with the beginning of the stop string.
fn ends_with_start_of(text: &str, stop: &str) -> bool {
    stop.char_indices().skip(1).any(|(len, _)| text.ends_with(&stop[..len]))
}

#[cfg(test)]
mod tests;
