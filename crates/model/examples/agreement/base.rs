//! Distributions of the next token as `llama-perplexity --kl-divergence-base` writes them.
//!
//! The file has tokens in chunks of a context's length; of each chunk the distributions behind the tokens of its second half
//! but the last. A log-probability is 16 bits between the smallest that is kept and the largest.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};

/// A file of distributions, read from front to back.
pub(crate) struct Base {
    file: BufReader<File>,
    /// Tokens of a chunk.
    pub(crate) context: usize,
    vocab: usize,
    /// Of all chunks, one behind the other.
    pub(crate) tokens: Vec<u32>,
    row: Vec<u8>,
}

/// A kept candidate for the next token: its id and its log-probability.
pub(crate) type Candidate = (usize, f64);

impl Base {
    /// Opens a file that was made with a model of `vocab` tokens.
    pub(crate) fn open(path: &str, vocab: usize) -> Result<Self, Box<dyn Error>> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if &magic != b"_logits_" {
            return Err(format!("'{path}' was not written by llama-perplexity").into());
        }
        let [context, found, chunks] =
            [word(&mut file)?, word(&mut file)?, word(&mut file)?].map(|n| n as usize);
        if found != vocab || context < 4 {
            return Err(format!(
                "'{path}' is of {found} tokens, in chunks of {context}; the model has {vocab}"
            )
            .into());
        }
        let tokens = (0..chunks * context).map(|_| word(&mut file)).collect::<Result<_, _>>()?;
        // Two floats, then the values, their number made even.
        let row = vec![0; 8 + 2 * vocab.next_multiple_of(2)];
        Ok(Self { file, context, vocab, tokens, row })
    }

    /// Positions of a chunk that have a distribution.
    pub(crate) fn positions(&self) -> std::ops::Range<usize> {
        self.context / 2..self.context - 1
    }

    /// Reads the next distribution: what is within 16 nats of the likeliest.
    pub(crate) fn next(&mut self, kept: &mut Vec<Candidate>) -> Result<(), Box<dyn Error>> {
        self.file.read_exact(&mut self.row)?;
        let (head, values) = self.row.split_at(8);
        let float =
            |at: usize| f64::from(f32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let (scale, least) = (float(0), float(4));
        kept.clear();
        for (token, value) in values.chunks_exact(2).take(self.vocab).enumerate() {
            match u16::from_le_bytes([value[0], value[1]]) {
                // The smallest and all below it.
                0 => {}
                value => kept.push((token, least + scale * f64::from(value))),
            }
        }
        Ok(())
    }
}

fn word(file: &mut impl Read) -> Result<u32, std::io::Error> {
    let mut word = [0; 4];
    file.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
}
