//! Pre-tokenizers of byte-level BPE: how text is cut before merging, by `tokenizer.ggml.pre`.
//!
//! The patterns are those that llama-server applies to these names, one after the other, each to the pieces that the
//! one before left. What no pattern matches becomes a piece as well.

use tokenizers::PreTokenizerWrapper;
use tokenizers::SplitDelimiterBehavior::Isolated;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use crate::TextError;

/// What the name of a pre-tokenizer implies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Patterns, in the order of their application.
    pub(crate) patterns: &'static [&'static str],
    /// A piece that is a token is that token, whatever the merges would make of it.
    pub(crate) ignore_merges: bool,
    /// Default of `tokenizer.ggml.add_bos_token`.
    pub(crate) add_bos: bool,
    /// Whether rendering a whole prompt drops the space before punctuation.
    pub(crate) clean_spaces: bool,
}

const DIGIT: &str = r"\p{N}";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rules of a pre-tokenizer.
///
/// # Errors
/// [`TextError::UnsupportedPreTokenizer`] for a name that is not in the list: cutting text in the wrong places would
/// give a model tokens that it never saw.
pub(crate) fn rules(name: &str) -> Result<Rules, TextError> {
    let plain = |patterns| Rules { patterns, ..Rules::default() };
    let cleaned = |patterns| Rules { clean_spaces: true, ..plain(patterns) };
    Ok(match name {
        "default" => cleaned(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
            Rules { ignore_merges: true, add_bos: true, ..cleaned(&[LLAMA3]) }
        }
        "dbrx" | "smaug-bpe" => cleaned(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "hunyuan" | "solar-open" => plain(&[QWEN2]),
        "stablelm2" | "megrez" => cleaned(&[QWEN2]),
        "smollm" | "command-r" => plain(&[DIGIT, GPT2]),
        "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => cleaned(&[DIGIT, GPT2]),
        "gpt-2" | "phi-2" | "gigachat" | "a.x-4.0" | "mellum" | "mpt" | "olmo" | "jais" | "exaone4" => {
            cleaned(&[GPT2])
        }
        "trillion" | "granite-docling" => plain(&[GPT2]),
        "tekken" => Rules { ignore_merges: true, add_bos: true, ..plain(&[TEKKEN]) },
        other => return Err(TextError::UnsupportedPreTokenizer(other.to_owned())),
    })
}

/// Bytes to the printable alphabet of byte-level BPE, without cutting.
pub(super) fn byte_level() -> ByteLevel {
    ByteLevel::new(false, false, false)
}

impl Rules {
    /// The pre-tokenizer: the patterns, then [`byte_level`].
    pub(crate) fn pre_tokenizer(self) -> Result<Sequence, TextError> {
        let mut steps = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let split =
                Split::new(SplitPattern::Regex((*pattern).to_owned()), Isolated, false).map_err(|error| {
                    TextError::Vocabulary(format!("pre-tokenizer pattern {pattern}: {error}"))
                })?;
            steps.push(PreTokenizerWrapper::from(split));
        }
        steps.push(byte_level().into());
        Ok(Sequence::new(steps))
    }
}
