//! Blocks to a slot file of llama.cpp's: which bytes stand between which parts of the payloads, none of which is copied.

use std::ops::Range;

use super::{MAGIC, PACKED, PACKED_VERSION, VERSION};
use crate::image::ImageHeader;

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Rows of a block.
    Rows {
        /// Number of the block.
        block: usize,
        /// Which bytes of its payload.
        range: Range<usize>,
    },
}

/// Where a llama-server with the same flags would have had the slot: it refuses files with another number of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Streams of the cache: one with `--kv-unified`, else one for each slot.
    pub streams: u32,
    /// Number of the slot.
    pub slot: u32,
}

/// The file of a slot, in order. V is not transposed and nothing is rotated.
#[must_use]
pub fn pieces(header: &ImageHeader, place: Place) -> Vec<Piece> {
    let mut head = Vec::new();
    head.extend_from_slice(&MAGIC);
    let tokens = u32::try_from(header.tokens.len()).unwrap_or(u32::MAX);
    let mut numbers = vec![VERSION, tokens.saturating_add(4), PACKED, PACKED_VERSION, tokens];
    numbers.extend(header.tokens.iter().map(|token| token.0));
    numbers.extend([0, place.streams]);
    let empty = header.tokens.is_empty() || place.streams == 0;
    let stream = place.slot.checked_rem(place.streams).unwrap_or(0);
    let before = if empty { place.streams } else { stream };
    numbers.extend((0..before).map(|_| 0));
    if empty {
        push(&mut head, &numbers);
        return vec![Piece::Bytes(head)];
    }
    numbers.push(tokens);
    numbers.extend((0..tokens).flat_map(|position| [position, 1, place.slot]));
    numbers.extend([0, header.layout.layers, 0, 0]);
    push(&mut head, &numbers);
    let mut pieces = vec![Piece::Bytes(head)];
    let (keys, values) = (header.layout.key_bytes(), header.layout.value_bytes());
    for (kv_type, row, offset) in [(header.layout.keys, keys, 0), (header.layout.values, values, keys)] {
        for layer in 0..u64::from(header.layout.layers) {
            let mut head = (kv_type as u32).to_le_bytes().to_vec();
            head.extend_from_slice(&row.to_le_bytes());
            pieces.push(Piece::Bytes(head));
            pieces.extend((0..header.blocks()).map(|block| {
                let tokens = u64::from(header.tokens_in(block));
                let start = (layer * (keys + values) + offset) * tokens;
                Piece::Rows { block, range: start as usize..(start + row * tokens) as usize }
            }));
        }
    }
    let mut tail = Vec::new();
    push(&mut tail, &vec![0; (place.streams - stream - 1) as usize]);
    pieces.push(Piece::Bytes(tail));
    pieces
}

fn push(bytes: &mut Vec<u8>, numbers: &[u32]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}
