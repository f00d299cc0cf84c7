//! The head of a file, parsed by candle over a prefix that grows until the whole head is in it.
//!
//! candle checks every length against the end of what it is given, so it never allocates by a number that the prefix
//! does not back. Its errors do not tell a short prefix from a damaged file; this module does, and finds out what
//! candle cannot say (which tensor has an unknown type) or does not look at (duplicates, an alignment of zero).

use std::io::Cursor;

use candle_core::quantized::gguf_file::{Content, DEFAULT_ALIGNMENT};

use crate::metadata::describe;
use crate::{GgufError, Metadata, ModelSource, SourceError, Value};

/// Bytes read first: enough for models with a small vocabulary.
const FIRST_READ: u64 = 1 << 20;

/// Longest head that is read. The largest vocabularies in use (260k tokens) take below 20 MiB, and a hostile head
/// costs up to 32 times its length in memory once parsed.
const LONGEST_HEADER: u64 = 64 << 20;

/// Magic, version, number of tensors, number of metadata entries.
const FIXED_PART: usize = 24;

/// Parses the head of the file and checks what concerns all of it; tensors are checked one by one later.
pub(crate) async fn read(source: &impl ModelSource) -> Result<Content, GgufError> {
    let limit = source.len().min(LONGEST_HEADER);
    let mut prefix = Vec::new();
    let mut earlier: Option<Failure> = None;
    loop {
        let wanted = if prefix.is_empty() { FIRST_READ } else { prefix.len() as u64 * 2 };
        extend(&mut prefix, source, wanted.min(limit)).await?;
        let counts = check_fixed_part(&prefix, source.len())?;
        check_alignment_entry(&prefix)?;

        let failure = match parse(&prefix) {
            Ok(content) => return check_counts(content, &counts),
            Err(failure) => failure,
        };
        if let Some((tensor, found)) = unsupported_type(&prefix, failure.at) {
            return Err(GgufError::UnsupportedType { tensor, found });
        }
        // The same complaint at the same place although twice the bytes were there: not a matter of length.
        if earlier.as_ref() == Some(&failure) {
            return Err(GgufError::Header { at: failure.at as u64, reason: failure.reason });
        }
        if prefix.len() as u64 == limit {
            return Err(failure.into_error(&prefix, source.len()));
        }
        earlier = Some(failure);
    }
}

/// What every tensor offset is a multiple of. GGUF asks for a multiple of 8, llama.cpp for a power of two.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    match metadata.value("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(alignment)) if alignment.is_power_of_two() && alignment >= 8 => Ok(alignment.into()),
        Some(other) => Err(bad_alignment(describe(other))),
    }
}

fn bad_alignment(found: String) -> GgufError {
    GgufError::KeyType {
        key: "general.alignment".to_owned(),
        wanted: "a u32, a power of two from 8 up",
        found,
    }
}

/// Where and why candle gave up.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    /// Bytes from the start.
    at: usize,
    reason: String,
    /// Whether a read ran into the end of the prefix.
    at_end: bool,
}

impl Failure {
    /// The error of a file whose head was given to candle as far as it will ever be.
    fn into_error(self, prefix: &[u8], len: u64) -> GgufError {
        if len > prefix.len() as u64 {
            let reason =
                format!("its header does not end within {} MiB: {}", LONGEST_HEADER >> 20, self.reason);
            return GgufError::Header { at: self.at as u64, reason };
        }
        if self.at_end {
            return GgufError::Truncated { what: "the header".to_owned(), end: len + 1, len };
        }
        GgufError::Header { at: self.at as u64, reason: self.reason }
    }
}

fn parse(prefix: &[u8]) -> Result<Content, Failure> {
    let mut reader = Cursor::new(prefix);
    Content::read(&mut reader).map_err(|error| {
        let error = without_backtrace(error);
        let at_end =
            matches!(&error, candle_core::Error::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof);
        let at = usize::try_from(reader.position()).unwrap_or(prefix.len());
        Failure { at, reason: error.to_string(), at_end }
    })
}

/// candle prints a backtrace into its messages when `RUST_BACKTRACE` is set; an operator's message is not the place.
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        error => error,
    }
}

async fn extend(prefix: &mut Vec<u8>, source: &impl ModelSource, to: u64) -> Result<(), GgufError> {
    let range = prefix.len() as u64..to;
    let bytes = source.read(range.clone()).await?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(SourceError::Short { range, found: bytes.len() }.into());
    }
    prefix.extend_from_slice(&bytes);
    Ok(())
}

/// Numbers that the fixed part promises.
struct Counts {
    tensors: u64,
    entries: u64,
}

fn check_fixed_part(prefix: &[u8], len: u64) -> Result<Counts, GgufError> {
    if !prefix.starts_with(b"GGUF") {
        let found = match &prefix[..prefix.len().min(16)] {
            [] => "nothing, it is empty".to_owned(),
            start => format!("\"{}\"", start.escape_ascii()),
        };
        return Err(GgufError::NotGguf { found });
    }
    let truncated = || GgufError::Truncated { what: "the header".to_owned(), end: FIXED_PART as u64, len };
    let version = u32_at(prefix, 4).ok_or_else(truncated)?;
    let advice = match version {
        2 | 3 => {
            let (tensors, entries) = u64_at(prefix, 8).zip(u64_at(prefix, 16)).ok_or_else(truncated)?;
            return Ok(Counts { tensors, entries });
        }
        0 | 1 => "convert the model again with a current convert_hf_to_gguf.py",
        v if matches!(v.swap_bytes(), 1..=3) => "the file is big-endian, get the little-endian one",
        _ => "the file is damaged, or newer than this program",
    };
    Err(GgufError::Version { found: version, advice })
}

/// candle keeps the last of entries with the same name; a file that says a thing twice is not to be trusted.
fn check_counts(content: Content, counts: &Counts) -> Result<Content, GgufError> {
    let found = [
        ("metadata key", counts.entries, content.metadata.len() as u64),
        ("tensor name", counts.tensors, content.tensor_infos.len() as u64),
    ];
    for (what, declared, distinct) in found {
        if declared != distinct {
            let reason = format!("a {what} occurs twice ({declared} entries, {distinct} distinct)");
            return Err(GgufError::Header { at: 8, reason });
        }
    }
    Ok(content)
}

/// Refuses an alignment of zero, by which candle would divide.
fn check_alignment_entry(prefix: &[u8]) -> Result<(), GgufError> {
    const KEY: &[u8] = b"\x11\0\0\0\0\0\0\0general.alignment";
    let mut rest = prefix;
    while let Some(start) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[start + KEY.len()..];
        // Type numbers of the integers up to 32 bits, which are the types that candle takes an alignment from.
        let width = match u32_at(rest, 0) {
            Some(0 | 1) => 1,
            Some(2 | 3) => 2,
            Some(4 | 5) => 4,
            _ => continue,
        };
        if rest.get(4..4 + width).is_some_and(|value| value.iter().all(|&byte| byte == 0)) {
            return Err(bad_alignment("0".to_owned()));
        }
    }
    Ok(())
}

/// When candle stopped behind the type of a tensor that it does not know: the tensor's name and the type.
///
/// A directory entry is name length (u64), name, number of dimensions (u32), dimensions (u64 each), type (u32), so the
/// entry is found by walking back from its type.
fn unsupported_type(prefix: &[u8], at: usize) -> Option<(String, String)> {
    let type_at = at.checked_sub(4)?;
    let id = u32_at(prefix, type_at)?;
    if matches!(id, 0..=3 | 6..=15 | 30) {
        return None;
    }
    let name_end = (1..=4).find_map(|dims| {
        let count_at = type_at.checked_sub(8 * dims + 4)?;
        (u32_at(prefix, count_at)? as usize == dims).then_some(count_at)
    })?;
    let name_start = (1..=MAX_NAME).find_map(|length| {
        let start = name_end.checked_sub(length)?;
        (u64_at(prefix, start.checked_sub(8)?)? == length as u64).then_some(start)
    })?;
    let name = std::str::from_utf8(&prefix[name_start..name_end]).ok()?;
    let found = match TYPE_NAMES.iter().find(|(known, _)| *known == id) {
        Some((_, type_name)) => format!("{type_name} ({id})"),
        None => format!("number {id}"),
    };
    Some((name.to_owned(), found))
}

/// Longest tensor name looked for; ggml stores 63 bytes.
const MAX_NAME: usize = 255;

/// Types of ggml that candle has no blocks for.
const TYPE_NAMES: [(u32, &str); 22] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
