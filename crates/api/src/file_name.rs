//! Names of slot files: one path component that means the same on every system.

use std::fmt;

/// A name that was checked: no separators, no traversal, nothing that some system reads as another name.
///
/// Holding one is the proof, so nothing after the door checks again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName(String);

/// The name is refused. The reason is not given on the wire (the reference gives none), only the fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid filename")]
pub struct InvalidFileName;

impl FileName {
    /// Longest name, bytes: what common file systems take.
    pub const MAX_BYTES: usize = 255;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidFileName`] for an empty or too long name, one with control characters, separators (also their Unicode
    /// look-alikes), characters that Windows forbids, `..`, a space at either end, a dot at the end, or the name of a
    /// Windows device.
    pub fn parse(name: &str) -> Result<Self, InvalidFileName> {
        let length = 1..=Self::MAX_BYTES;
        let trimmed_elsewhere = name.starts_with(' ') || name.ends_with([' ', '.']);
        if !length.contains(&name.len()) || trimmed_elsewhere || name.contains("..") {
            return Err(InvalidFileName);
        }
        if name.chars().any(is_forbidden) || is_device(name) {
            return Err(InvalidFileName);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_forbidden(character: char) -> bool {
    match character {
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => true,
        // Full stop, division slash and set minus look-alikes; replacement character; byte order mark.
        '\u{FF0E}' | '\u{2215}' | '\u{2216}' | '\u{FFFD}' | '\u{FEFF}' => true,
        _ => character.is_control(),
    }
}

/// `NUL`, `com1.bin`, ...: on Windows these are devices whatever the extension.
fn is_device(name: &str) -> bool {
    const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let numbered = |port: &str| {
        let number = stem.get(..3).filter(|head| head.eq_ignore_ascii_case(port)).and(stem.get(3..));
        matches!(number.map(str::as_bytes), Some([b'1'..=b'9']))
    };
    DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)) || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ordinary_names() {
        let longest = "a".repeat(255);
        for name in [
            "slot1.bin",
            ".hid",
            "é日本.bin",
            "a b",
            "x",
            "a.b.c",
            "console",
            "com",
            "com10",
            longest.as_str(),
        ] {
            assert_eq!(FileName::parse(name).map(FileName::into_string).as_deref(), Ok(name));
        }
    }

    #[test]
    fn refuses_what_could_leave_the_folder_or_change_its_meaning() {
        let too_long = "é".repeat(128);
        let refused = [
            "",
            ".",
            "..",
            "a..b",
            "../a",
            "a/b",
            "a\\b",
            "/etc/passwd",
            "c:x",
            "a*",
            "a?",
            "a\"",
            "a<",
            "a>",
            "a|",
            " a",
            "a ",
            "a.",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "a\u{FF0E}",
            "a\u{2215}b",
            "a\u{2216}b",
            "a\u{FFFD}",
            "\u{FEFF}a",
            "CON",
            "nul.bin",
            "Aux .x",
            "com1",
            "LPT9.txt",
            too_long.as_str(),
        ];
        for name in refused {
            assert_eq!(FileName::parse(name), Err(InvalidFileName), "{name:?}");
        }
    }
}
