//! A slot file of llama.cpp's to blocks. The bytes are hostile: every length is held against those that remain.

use reprise_gguf::TokenId;

use super::{LlamaError, MAGIC, PACKED, PACKED_VERSION, VERSION};
use crate::image::decode::check_tokens;
use crate::image::reader::Reader;
use crate::image::{Expected, ImageError, ImageHeader, KvType, Layout};

/// A slot file whose structure has been verified. Rows are views of the bytes; nothing vouches for what they hold.
#[derive(Debug)]
pub struct LlamaFile<'a> {
    header: ImageHeader,
    /// For each position its cell.
    cells: Vec<u32>,
    /// For each layer the cells' K and V.
    layers: Vec<[&'a [u8]; 2]>,
    /// V is `[element][cell]`.
    transposed: bool,
}

impl<'a> LlamaFile<'a> {
    /// Reads and verifies a file.
    ///
    /// # Errors
    /// [`ImageError::NotAnImage`] for other bytes, [`ImageError::TooManyTokens`], [`ImageError::BadToken`], and
    /// [`ImageError::Llama`].
    pub fn decode(bytes: &'a [u8], expected: &Expected) -> Result<Self, ImageError> {
        let Some(rest) = bytes.strip_prefix(&MAGIC) else { return Err(ImageError::NotAnImage) };
        let mut reader = Reader::new(rest);
        let file = read(&mut reader, expected);
        file.unwrap_or(Err(LlamaError::Truncated { found: bytes.len() as u64 }.into()))
    }

    /// What an image of the slot would say about itself.
    #[must_use]
    pub fn header(&self) -> &ImageHeader {
        &self.header
    }

    /// The payloads of the slot's blocks, as in an image.
    pub fn payloads(&self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.header.blocks()).map(|block| self.payload(block))
    }

    fn payload(&self, block: usize) -> Vec<u8> {
        let Layout { block_tokens, .. } = self.header.layout;
        let first = block * block_tokens as usize;
        let cells = &self.cells[first..first + self.header.tokens_in(block) as usize];
        let mut payload = Vec::with_capacity(usize::try_from(self.header.payload_len(block)).unwrap_or(0));
        for [keys, values] in &self.layers {
            self.copy_rows(keys, cells, &mut payload);
            if self.transposed {
                self.copy_columns(values, cells, &mut payload);
            } else {
                self.copy_rows(values, cells, &mut payload);
            }
        }
        payload
    }

    fn copy_rows(&self, rows: &[u8], cells: &[u32], payload: &mut Vec<u8>) {
        let row = rows.len() / self.cells.len();
        for cell in cells {
            payload.extend_from_slice(&rows[*cell as usize * row..][..row]);
        }
    }

    /// Elements of two bytes.
    fn copy_columns(&self, columns: &[u8], cells: &[u32], payload: &mut Vec<u8>) {
        let elements = columns.as_chunks::<2>().0;
        for cell in cells {
            let row = elements.iter().skip(*cell as usize).step_by(self.cells.len());
            payload.extend(row.flatten());
        }
    }
}

/// What stands behind the magic. `None` if it ends early.
fn read<'a>(reader: &mut Reader<'a>, expected: &Expected) -> Option<Result<LlamaFile<'a>, ImageError>> {
    let version = reader.u32()?;
    if version != VERSION {
        return Some(Err(LlamaError::Version { found: version }.into()));
    }
    let words = reader.u32()?;
    let words = reader.take((words as usize).checked_mul(4)?)?;
    let ids = match token_ids(words) {
        Ok(ids) => ids,
        Err(error) => return Some(Err(error.into())),
    };
    let tokens: Vec<TokenId> = ids.iter().map(|id| TokenId(u32::from_le_bytes(*id))).collect();
    if let Err(error) = check_tokens(&tokens, expected) {
        return Some(Err(error));
    }
    let Expected { fingerprint, layout, .. } = *expected;
    // Nothing in the file says of which model it is, nor whether its context was shifted.
    let header = ImageHeader { fingerprint, layout, tokens, exact: 0 };
    Some(match read_streams(reader, header)? {
        Ok(_) if reader.left() > 0 => Err(LlamaError::Trailing { extra: reader.left() as u64 }.into()),
        Ok(file) => Ok(file),
        Err(error) => Err(error.into()),
    })
}

/// The token ids among the words.
fn token_ids(words: &[u8]) -> Result<&[[u8; 4]], LlamaError> {
    let mut reader = Reader::new(words);
    if reader.u32() != Some(PACKED) {
        return Ok(words.as_chunks().0);
    }
    let version = reader.u32().ok_or(LlamaError::Tokens)?;
    if version != PACKED_VERSION {
        return Err(LlamaError::TokensVersion { found: version });
    }
    let tokens = reader.u32().ok_or(LlamaError::Tokens)?;
    let ids = (tokens as usize).checked_mul(4).and_then(|len| reader.take(len)).ok_or(LlamaError::Tokens)?;
    match reader.u32().ok_or(LlamaError::Tokens)? {
        0 if reader.left() == 0 => Ok(ids.as_chunks().0),
        0 => Err(LlamaError::Tokens),
        _ => Err(LlamaError::Media),
    }
}

/// All streams, of which at most one has cells.
fn read_streams<'a>(
    reader: &mut Reader<'a>,
    header: ImageHeader,
) -> Option<Result<LlamaFile<'a>, LlamaError>> {
    let tokens = u32::try_from(header.tokens.len()).unwrap_or(u32::MAX);
    let mut file = LlamaFile { header, cells: Vec::new(), layers: Vec::new(), transposed: false };
    for _ in 0..reader.u32()? {
        let cells = reader.u32()?;
        if cells == 0 {
            continue;
        }
        if !file.cells.is_empty() {
            return Some(Err(LlamaError::Sequences));
        }
        if cells != tokens {
            return Some(Err(LlamaError::Cells { tokens, cells }));
        }
        if let Err(error) = read_cells(reader, tokens, &mut file.cells)? {
            return Some(Err(error));
        }
        if let Err(error) = read_data(reader, &mut file)? {
            return Some(Err(error));
        }
    }
    let cells = u32::try_from(file.cells.len()).unwrap_or(u32::MAX);
    Some(if cells == tokens { Ok(file) } else { Err(LlamaError::Cells { tokens, cells }) })
}

/// For each position its cell.
fn read_cells(reader: &mut Reader<'_>, tokens: u32, cells: &mut Vec<u32>) -> Option<Result<(), LlamaError>> {
    const FREE: u32 = u32::MAX;
    cells.resize(tokens as usize, FREE);
    for cell in 0..tokens {
        let [position, sequences] = [reader.u32()?, reader.u32()?];
        if sequences != 1 {
            return Some(Err(LlamaError::Sequences));
        }
        // Which slot it was: it may go to another.
        reader.u32()?;
        match cells.get_mut(position as usize) {
            Some(place) if *place == FREE => *place = cell,
            _ => return Some(Err(LlamaError::Position { found: position.cast_signed(), tokens })),
        }
    }
    Some(Ok(()))
}

/// Views of the layers' K and V.
fn read_data<'a>(reader: &mut Reader<'a>, file: &mut LlamaFile<'a>) -> Option<Result<(), LlamaError>> {
    let (layout, cells) = (file.header.layout, file.cells.len() as u64);
    let [transposed, layers, rotated_keys, rotated_values] =
        [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
    file.transposed = transposed == 1;
    let refusal = if transposed > 1 {
        Some(LlamaError::Transposition)
    } else if layers != layout.layers {
        Some(LlamaError::Layers { found: layers, expected: layout.layers })
    } else if rotated_keys != 0 || rotated_values != 0 {
        Some(LlamaError::Rotated)
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return Some(Err(refusal));
    }
    for _ in 0..layers {
        match read_rows(reader, "K", layout.keys, layout.key_bytes(), cells)? {
            Ok(keys) => file.layers.push([keys, &[]]),
            Err(error) => return Some(Err(error)),
        }
    }
    for layer in &mut file.layers {
        let values = if file.transposed {
            read_columns(reader, layout, cells)?
        } else {
            read_rows(reader, "V", layout.values, layout.value_bytes(), cells)?
        };
        match values {
            Ok(values) => layer[1] = values,
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(()))
}

fn read_rows<'a>(
    reader: &mut Reader<'a>,
    which: &'static str,
    kv_type: KvType,
    row: u64,
    cells: u64,
) -> Option<Result<&'a [u8], LlamaError>> {
    let (found_type, found_row) = (reader.u32()?, reader.u64()?);
    if found_type != kv_type as u32 {
        return Some(Err(LlamaError::KvType { which, found: found_type, expected: kv_type }));
    }
    if found_row != row {
        return Some(Err(LlamaError::Row { which, found: found_row, expected: row }));
    }
    let bytes = usize::try_from(row.checked_mul(cells)?).ok()?;
    reader.take(bytes).map(Ok)
}

/// V without flash attention, which llama.cpp never quantises.
fn read_columns<'a>(
    reader: &mut Reader<'a>,
    layout: Layout,
    cells: u64,
) -> Option<Result<&'a [u8], LlamaError>> {
    let [kv_type, element, elements] = [reader.u32()?, reader.u32()?, reader.u32()?];
    if kv_type != KvType::F16 as u32 || layout.values != KvType::F16 {
        return Some(Err(LlamaError::KvType { which: "V", found: kv_type, expected: layout.values }));
    }
    let (found, expected) = (u64::from(element) * u64::from(elements), layout.value_bytes());
    if element != 2 || found != expected {
        return Some(Err(LlamaError::Row { which: "V", found, expected }));
    }
    let bytes = usize::try_from(expected.checked_mul(cells)?).ok()?;
    reader.take(bytes).map(Ok)
}
