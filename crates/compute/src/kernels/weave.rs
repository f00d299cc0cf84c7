//! The blocks of 16 rows woven together: word after word of 32 bits, each of all rows, so that a kernel which takes 16 rows side by
//! side loads a word of each at once.

use bytemuck::Pod;

use super::panel::PANEL;

/// Bytes of a word.
const WORD: usize = 4;

/// Bytes of a block that are woven in words; what is left of 16 follows, row after row.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "elsewhere no kernel wants them so"))]
pub(crate) const fn words_end<B>() -> usize {
    size_of::<B>() / 16 * 16
}

/// Weaves block `row` of a panel into `to`, which holds a block of each row.
pub(crate) fn weave<B: Pod>(block: &B, row: usize, to: &mut [B]) {
    let (from, to) = (bytemuck::bytes_of(block), bytemuck::cast_slice_mut::<B, u8>(to));
    let (words, rest) = from.split_at(words_end::<B>());
    for (index, word) in words.chunks_exact(WORD).enumerate() {
        to[(index * PANEL + row) * WORD..][..WORD].copy_from_slice(word);
    }
    to[words.len() * PANEL + row * rest.len()..][..rest.len()].copy_from_slice(rest);
}

/// Block `row` of those that [`weave`] wove.
pub(crate) fn unweave<B: Pod>(woven: &[B], row: usize) -> B {
    let mut block = B::zeroed();
    let (from, to) = (bytemuck::cast_slice::<B, u8>(woven), bytemuck::bytes_of_mut(&mut block));
    let (words, rest) = to.split_at_mut(words_end::<B>());
    for (index, word) in words.chunks_exact_mut(WORD).enumerate() {
        word.copy_from_slice(&from[(index * PANEL + row) * WORD..][..WORD]);
    }
    let tail = rest.len();
    rest.copy_from_slice(&from[words.len() * PANEL + row * tail..][..tail]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_rows_lie_together_and_come_back() {
        let rows: [[u8; 22]; PANEL] =
            std::array::from_fn(|row| std::array::from_fn(|i| (row * 22 + i) as u8));
        let mut woven = [[0u8; 22]; PANEL];
        for (row, block) in rows.iter().enumerate() {
            weave(block, row, &mut woven);
        }
        let bytes = woven.as_flattened();
        assert_eq!(bytes[64 + 3 * 4..][..4], rows[3][4..8], "word 1 of row 3");
        assert_eq!(bytes[16 * 16 + 5 * 6..][..6], rows[5][16..], "the rest of row 5");
        for (row, block) in rows.iter().enumerate() {
            assert_eq!(unweave(&woven, row), *block);
        }
    }
}
