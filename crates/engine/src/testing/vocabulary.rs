//! The vocabulary that goes with the scripted model: bytes and letters.

use futures::executor::block_on;
use reprise_gguf::build::GgufBuilder;
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_text::Text;

/// Beginning of a sequence.
pub const BOS: TokenId = TokenId(1);
/// Ends a generation.
pub const EOS: TokenId = TokenId(2);
/// Tokens in the vocabulary: three special ones, 256 bytes, 26 letters.
pub const VOCAB: usize = FIRST_LETTER as usize + 26;

const FIRST_BYTE: u32 = 3;
const FIRST_LETTER: u32 = FIRST_BYTE + 256;

/// The token of one byte.
#[must_use]
pub fn byte(byte: u8) -> TokenId {
    TokenId(FIRST_BYTE + u32::from(byte))
}

/// The token of a letter from `a` to `z`, counted from zero and round again.
#[must_use]
pub fn letter(index: u32) -> TokenId {
    TokenId(FIRST_LETTER + index % 26)
}

/// A text as tokens: letters as letters, all else as bytes.
#[must_use]
pub fn letters(text: &str) -> Vec<TokenId> {
    text.bytes()
        .map(|found| if found.is_ascii_lowercase() { letter(u32::from(found - b'a')) } else { byte(found) })
        .collect()
}

/// Tokenizer and template of this vocabulary, which adds BOS to a prompt.
///
/// # Panics
/// When the other crates no longer take it.
#[must_use]
pub fn text() -> Text {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('a'..='z').map(String::from);
    // `tokenizer.ggml.token_type`.
    let [normal, unknown, control, byte] = [1, 2, 3, 6];
    let kinds = [unknown, control, control].into_iter().chain([byte; 256]).chain([normal; 26]);
    let file = GgufBuilder::new("llama")
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", special.into_iter().chain(bytes).chain(letters))
        .f32s("tokenizer.ggml.scores", [0.0; VOCAB])
        .i32s("tokenizer.ggml.token_type", kinds)
        .bool("tokenizer.ggml.add_space_prefix", false)
        .u32("tokenizer.ggml.bos_token_id", BOS.0)
        .u32("tokenizer.ggml.eos_token_id", EOS.0)
        .to_bytes()
        .expect("metadata can be written");
    let file = block_on(Gguf::open(&MemorySource(file.into()))).expect("what was written can be read");
    Text::from_metadata(&file.metadata).expect("the vocabulary is complete")
}
