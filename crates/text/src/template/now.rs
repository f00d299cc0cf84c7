//! The date and time that templates may tell a model.

use std::fmt::Write;

use chrono::DateTime;

/// The wall clock of the host, for templates that tell the model the date: seconds since 1970-01-01 00:00 of its local
/// time, that is with the offset from UTC already added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalTime(pub i64);

impl LocalTime {
    /// Formats with strftime's codes; `None` for a time or a format that does not exist.
    pub(super) fn format(self, format: &str) -> Option<String> {
        let time = DateTime::from_timestamp(self.0, 0)?.naive_utc();
        let mut text = String::new();
        write!(text, "{}", time.format(format)).ok()?;
        Some(text)
    }
}
