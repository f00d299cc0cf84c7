//! llama-server's own slot files, so that saved slots can move over and back.
//!
//! Version 4, as llama.cpp b11434 writes it; all numbers are little-endian.
//!
//! ```text
//! file     magic "qsgg" | version u32 | words u32 | words i32 * words | streams u32 | stream * streams
//! words    -1 | 1 | tokens u32 | token ids * tokens | media u32 | ...
//!          or, as older servers wrote them, the token ids alone
//! stream   cells u32, and if there are any: cell * cells | data
//! cell     position i32 | sequences u32 | sequence i32 * sequences
//! data     V transposed u32 | layers u32 | K's rotation u32 | V's rotation u32 | K * layers | V * layers
//! K        ggml type i32 | bytes of a row u64 | row * cells
//! V        the same, or transposed: ggml type i32 | bytes of an element u32 | elements of a row u32 |
//!          the cells' elements 0 | their elements 1 | ...
//! ```
//!
//! A row is `[kv_head][head_dim]`, K after RoPE, as in our blocks. Cells stand in the order of llama-server's memory, which
//! need not be that of positions. With `--kv-unified` there is one stream, else one for each slot, of which only the saved
//! slot's has cells. V is transposed when flash attention is off. Models with a sliding window have two lists of streams,
//! of some layers each; they are not read.
//!
//! The format knows nothing of the model but these sizes and has no checksums: a file of another model of the same shape,
//! or with a flipped bit in its rows, passes.

mod decode;
mod encode;
mod error;

pub use decode::LlamaFile;
pub use encode::{Piece, Place, pieces};
pub use error::LlamaError;

/// First bytes of such a file: the number 0x67677371.
const MAGIC: [u8; 4] = *b"qsgg";
/// Version of the file.
const VERSION: u32 = 4;
/// Where an id would stand: the words are more than the ids.
const PACKED: u32 = u32::MAX;
/// Version of the words.
const PACKED_VERSION: u32 = 1;

/// Whether the bytes are, by their beginning, a slot file of llama.cpp's.
#[must_use]
pub fn is_file(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}
