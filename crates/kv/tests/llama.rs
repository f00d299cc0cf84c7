//! llama-server's slot files: read, written, and every way in which they can be wrong. The files here are put together by
//! hand from the documented format; `tests/` holds the reader against what a llama-server saved.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reprise_gguf::TokenId;
use reprise_kv::image::llama::{LlamaError, LlamaFile, Piece, Place, is_file, pieces};
use reprise_kv::image::{Expected, ImageError, ImageHeader, KvType, Layout};

const LAYERS: u32 = 3;
/// Elements of a row: 2 heads of 2.
const ROW: u32 = 4;

fn layout() -> Layout {
    Layout::new(LAYERS, 2, 2, 2)
}

fn expected() -> Expected {
    Expected { fingerprint: [7; 32], layout: layout(), vocab: 1_000, max_tokens: 256 }
}

/// An element of K or V that no other place has.
fn element(layer: u32, values: bool, position: u32, index: u32) -> [u8; 2] {
    let number = ((layer * 2 + u32::from(values)) * 100 + position) * ROW + index;
    (number as u16).to_le_bytes()
}

fn row(layer: u32, values: bool, position: u32) -> Vec<u8> {
    (0..ROW).flat_map(|index| element(layer, values, position, index)).collect()
}

/// Files as llama-server would write them.
#[derive(Debug, Clone)]
struct Made {
    tokens: u32,
    /// Positions of the cells.
    positions: Vec<u32>,
    streams: u32,
    slot: u32,
    transposed: bool,
    /// Only the token ids, as older servers wrote them.
    plain: bool,
}

impl Made {
    fn new(tokens: u32) -> Self {
        let positions = (0..tokens).collect();
        Self { tokens, positions, streams: 1, slot: 0, transposed: false, plain: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |numbers: &[u32]| numbers.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        let ids: Vec<u32> = (0..self.tokens).map(|token| token + 5).collect();
        put(&[0x6767_7371, 4]);
        if self.plain {
            put(&[self.tokens]);
            put(&ids);
        } else {
            put(&[self.tokens + 4, u32::MAX, 1, self.tokens]);
            put(&ids);
            put(&[0]);
        }
        put(&[self.streams]);
        for stream in 0..self.streams {
            if self.positions.is_empty() || stream != self.slot % self.streams {
                bytes.extend([0; 4]);
                continue;
            }
            let mut put = |numbers: &[u32]| numbers.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            put(&[self.positions.len() as u32]);
            self.positions.iter().for_each(|position| put(&[*position, 1, self.slot]));
            put(&[u32::from(self.transposed), LAYERS, 0, 0]);
            for layer in 0..LAYERS {
                self.rows(layer, false, &mut bytes);
            }
            for layer in 0..LAYERS {
                if self.transposed {
                    [1, 2, ROW].iter().for_each(|n: &u32| bytes.extend(n.to_le_bytes()));
                    for index in 0..ROW {
                        self.positions.iter().for_each(|at| bytes.extend(element(layer, true, *at, index)));
                    }
                } else {
                    self.rows(layer, true, &mut bytes);
                }
            }
        }
        bytes
    }

    fn rows(&self, layer: u32, values: bool, bytes: &mut Vec<u8>) {
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(u64::from(ROW * 2).to_le_bytes());
        self.positions.iter().for_each(|position| bytes.extend(row(layer, values, *position)));
    }
}

fn header(tokens: u32) -> ImageHeader {
    let tokens = (0..tokens).map(|token| TokenId(token + 5)).collect();
    ImageHeader { fingerprint: [7; 32], layout: layout(), tokens, exact: 0 }
}

/// The payloads of the same slot in an image.
fn payloads(tokens: u32) -> Vec<Vec<u8>> {
    let header = header(tokens);
    let payload = |block: usize| {
        let positions = block as u32 * 32..block as u32 * 32 + header.tokens_in(block);
        let part = |layer, values| positions.clone().flat_map(move |position| row(layer, values, position));
        (0..LAYERS).flat_map(|layer| part(layer, false).chain(part(layer, true))).collect()
    };
    (0..header.blocks()).map(payload).collect()
}

fn decode(bytes: &[u8]) -> Result<(ImageHeader, Vec<Vec<u8>>), ImageError> {
    let file = LlamaFile::decode(bytes, &expected())?;
    Ok((file.header().clone(), file.payloads().collect()))
}

fn refusal(bytes: &[u8]) -> LlamaError {
    match decode(bytes) {
        Err(ImageError::Llama(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn put(mut bytes: Vec<u8>, at: usize, number: u32) -> Vec<u8> {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Where the number of streams stands.
fn streams_at(tokens: u32) -> usize {
    12 + (tokens as usize + 4) * 4
}

#[test]
fn files_are_read() {
    for tokens in [0, 1, 31, 32, 33, 84] {
        for transposed in [false, true] {
            for (streams, slot) in [(1, 0), (1, 3), (4, 2), (2, 1)] {
                for plain in [false, true] {
                    let made = Made { transposed, streams, slot, plain, ..Made::new(tokens) };
                    assert!(is_file(&made.bytes()));
                    let wanted = (header(tokens), payloads(tokens));
                    assert_eq!(decode(&made.bytes()), Ok(wanted), "{tokens} {transposed} {streams} {slot}");
                }
            }
        }
    }
}

#[test]
fn cells_may_stand_in_any_order() {
    for transposed in [false, true] {
        let positions = (0..40).map(|cell| cell * 7 % 40).collect();
        let made = Made { positions, transposed, ..Made::new(40) };
        assert_eq!(decode(&made.bytes()), Ok((header(40), payloads(40))));
    }
}

#[test]
fn files_are_written_as_a_llama_server_with_the_same_flags_writes_them() {
    for tokens in [0, 1, 32, 84] {
        for (streams, slot) in [(1, 0), (1, 3), (4, 2), (2, 1)] {
            let payloads = payloads(tokens);
            let written: Vec<u8> = pieces(&header(tokens), Place { streams, slot })
                .into_iter()
                .flat_map(|piece| match piece {
                    Piece::Bytes(bytes) => bytes,
                    Piece::Rows { block, range } => payloads[block][range].to_vec(),
                })
                .collect();
            assert_eq!(
                written,
                Made { streams, slot, ..Made::new(tokens) }.bytes(),
                "{tokens} {streams} {slot}"
            );
        }
    }
}

/// Sizes that a llama-server b11434 reported (`n_written`) for stories260K with two slots.
#[test]
fn files_are_as_long_as_those_of_llama_server() {
    let written = |tokens: u32| -> usize {
        let tokens = (0..tokens).map(TokenId).collect();
        let header = ImageHeader { fingerprint: [7; 32], layout: Layout::new(5, 4, 8, 8), tokens, exact: 0 };
        let length = |piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Rows { range, .. } => range.len(),
        };
        pieces(&header, Place { streams: 2, slot: 1 }).into_iter().map(length).sum()
    };
    assert_eq!((written(84), written(0)), (55280, 40));
}

#[test]
fn every_truncation_is_found() {
    for transposed in [false, true] {
        let bytes = Made { transposed, streams: 2, ..Made::new(40) }.bytes();
        for len in 4..bytes.len() {
            assert_eq!(refusal(&bytes[..len]), LlamaError::Truncated { found: len as u64 });
        }
    }
    assert_eq!(decode(b"qsg"), Err(ImageError::NotAnImage));
    let mut longer = Made::new(40).bytes();
    longer.extend([0; 5]);
    assert_eq!(refusal(&longer), LlamaError::Trailing { extra: 5 });
}

#[test]
fn misfits_say_what_to_do() {
    let bytes = || Made::new(40).bytes();
    let (streams, cell) = (streams_at(40), streams_at(40) + 8);
    let data = cell + 40 * 12;
    assert_eq!(refusal(&put(bytes(), 4, 2)), LlamaError::Version { found: 2 });
    assert_eq!(refusal(&put(bytes(), 16, 2)), LlamaError::TokensVersion { found: 2 });
    assert_eq!(refusal(&put(bytes(), 20, 39)), LlamaError::Media, "the last id as the number of media");
    assert_eq!(refusal(&put(bytes(), 20, u32::MAX)), LlamaError::Tokens);
    assert_eq!(refusal(&put(bytes(), streams - 4, 1)), LlamaError::Media);
    assert_eq!(refusal(&put(bytes(), streams + 4, 39)), LlamaError::Cells { tokens: 40, cells: 39 });
    assert_eq!(refusal(&put(bytes(), cell + 4, 2)), LlamaError::Sequences);
    assert_eq!(refusal(&put(bytes(), cell, 39)), LlamaError::Position { found: 39, tokens: 40 });
    assert_eq!(refusal(&put(bytes(), cell, 40)), LlamaError::Position { found: 40, tokens: 40 });
    assert_eq!(refusal(&put(bytes(), cell, u32::MAX)), LlamaError::Position { found: -1, tokens: 40 });
    assert_eq!(refusal(&put(bytes(), data, 2)), LlamaError::Transposition);
    assert_eq!(refusal(&put(bytes(), data + 4, 2)), LlamaError::Layers { found: 2, expected: 3 });
    assert_eq!(refusal(&put(bytes(), data + 8, 64)), LlamaError::Rotated);
    assert_eq!(refusal(&put(bytes(), data + 12, 64)), LlamaError::Rotated);
    let kv_type = LlamaError::KvType { which: "K", found: 8, expected: KvType::F16 };
    assert!(kv_type.to_string().contains("--cache-type-k"), "{kv_type}");
    assert_eq!(refusal(&put(bytes(), data + 16, 8)), kv_type);
    let row = LlamaError::Row { which: "K", found: 16, expected: 8 };
    assert_eq!(refusal(&put(bytes(), data + 20, 16)), row);
    let values = data + 16 + 3 * (12 + 40 * 8);
    let row = LlamaError::Row { which: "V", found: 16, expected: 8 };
    assert_eq!(refusal(&put(bytes(), values + 4, 16)), row);
    let transposed = Made { transposed: true, ..Made::new(40) }.bytes();
    assert_eq!(refusal(&put(transposed.clone(), values + 8, 8)), row);
    let kv_type = LlamaError::KvType { which: "V", found: 0, expected: KvType::F16 };
    assert_eq!(refusal(&put(transposed, values, 0)), kv_type);
}

#[test]
fn two_sequences_are_refused() {
    let one = Made::new(2).bytes();
    let streams = streams_at(2);
    let mut two = put(one.clone(), streams, 2);
    two.extend_from_slice(&one[streams + 4..]);
    assert_eq!(refusal(&two), LlamaError::Sequences);
    let none = [&put(one, streams, 1)[..streams + 4], &[0; 4]].concat();
    assert_eq!(refusal(&none), LlamaError::Cells { tokens: 2, cells: 0 });
}

#[test]
fn tokens_must_fit_the_slot_and_the_model() {
    let bytes = Made::new(40).bytes();
    let refuse = |expected: Expected| LlamaFile::decode(&bytes, &expected).map(drop);
    let limit = Expected { max_tokens: 39, ..expected() };
    assert_eq!(refuse(limit), Err(ImageError::TooManyTokens { found: 40, limit: 39 }));
    let vocab = Expected { vocab: 44, ..expected() };
    assert_eq!(refuse(vocab), Err(ImageError::BadToken { position: 39, token: 44, vocab: 44 }));
}

#[test]
fn quantised_rows_are_read_where_they_are_not_rotated() {
    let layout = Layout { keys: KvType::Q8_0, values: KvType::Q4_0, ..Layout::new(1, 1, 32, 32) };
    let header = ImageHeader { fingerprint: [7; 32], layout, tokens: vec![TokenId(1), TokenId(2)], exact: 0 };
    let payload: Vec<u8> = (0..2 * (34 + 18)).collect();
    let bytes: Vec<u8> = pieces(&header, Place { streams: 1, slot: 0 })
        .into_iter()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Rows { range, .. } => payload[range].to_vec(),
        })
        .collect();
    let expected = Expected { layout, ..expected() };
    let file = LlamaFile::decode(&bytes, &expected).expect("its own types");
    assert_eq!(file.payloads().collect::<Vec<_>>(), [payload]);
}

#[test]
fn lying_lengths_cost_nothing() {
    let bytes = || Made::new(40).bytes();
    let found = bytes().len() as u64;
    let streams = streams_at(40);
    assert_eq!(refusal(&put(bytes(), 8, u32::MAX)), LlamaError::Truncated { found });
    assert_eq!(refusal(&put(bytes(), streams, u32::MAX)), LlamaError::Truncated { found });
    let cells = LlamaError::Cells { tokens: 40, cells: u32::MAX };
    assert_eq!(refusal(&put(bytes(), streams + 4, u32::MAX)), cells);
    // Even where the host asked for it.
    let layout = Layout::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    assert!(LlamaFile::decode(&bytes(), &Expected { layout, ..expected() }).is_err());
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let tail = prop::collection::vec(any::<u8>(), 0..64);
    let cut = prop::option::of(any::<prop::sample::Index>());
    let made = (0..70_u32, 1..4_u32, any::<bool>(), any::<bool>()).prop_map(
        |(tokens, streams, transposed, plain)| Made { streams, transposed, plain, ..Made::new(tokens) },
    );
    (made, edits, cut, tail).prop_map(|(made, edits, cut, tail)| {
        let mut bytes = made.bytes();
        // Most of the structure stands in front.
        let front = bytes.len().min(80 + made.tokens as usize * 16);
        edits.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes[..front]) = byte);
        let len = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
        bytes.truncate(len);
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic_and_pass_only_whole(bytes in damaged()) {
        if let Ok((header, payloads)) = decode(&bytes) {
            prop_assert_eq!(payloads.len(), header.blocks());
            for (block, payload) in payloads.iter().enumerate() {
                prop_assert_eq!(payload.len() as u64, header.payload_len(block));
            }
        }
    }
}
