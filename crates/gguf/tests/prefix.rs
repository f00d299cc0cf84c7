//! How much of a file is read: its head and little more, whatever its size.

mod support;

use std::cell::RefCell;
use std::ops::Range;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_gguf::{Gguf, GgufError, MemorySource, ModelSource, SourceError};
use support::Raw;

const MIB: u64 = 1 << 20;

/// A file of any length whose head is `head` and whose rest is zeros made on demand; notes what is read.
struct Sparse {
    head: Vec<u8>,
    len: u64,
    reads: RefCell<Vec<Range<u64>>>,
}

impl Sparse {
    fn new(head: Vec<u8>, len: u64) -> Self {
        Self { head, len, reads: RefCell::default() }
    }

    fn bytes_read(&self) -> u64 {
        self.reads.borrow().iter().map(|range| range.end - range.start).sum()
    }
}

impl ModelSource for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.reads.borrow_mut().push(range.clone());
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let known = self.head.get(range.start as usize..).unwrap_or_default();
        let known = &known[..known.len().min(bytes.len())];
        bytes[..known.len()].copy_from_slice(known);
        Ok(bytes.into())
    }
}

/// A head with a vocabulary of `tokens` pieces of 8 bytes, and one tensor of a GiB.
fn big_file(tokens: u64) -> Sparse {
    let file = Raw::head(3, 1, 1).string("tokenizer.ggml.tokens").u32(9).u32(8).u64(tokens);
    let file = (0..tokens).fold(file, |file, id| file.string(&format!("{id:08}")));
    let head = file.tensor("weight", &[1 << 28], 0, 0).0;
    let len = (head.len() as u64).next_multiple_of(32) + (1 << 30);
    Sparse::new(head, len)
}

#[test]
fn a_small_head_costs_one_read() {
    let source = big_file(1000);
    let gguf = block_on(Gguf::open(&source)).unwrap();
    assert_eq!(gguf.tensor("weight").unwrap().range.end, source.len);
    assert_eq!((source.reads.borrow().len(), source.bytes_read()), (1, MIB));
}

#[test]
fn a_large_head_is_read_once_and_hardly_more() {
    let source = big_file(300_000);
    let gguf = block_on(Gguf::open(&source)).unwrap();
    assert_eq!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap()[299_999], "00299999");
    assert_eq!(*source.reads.borrow(), [0..MIB, MIB..2 * MIB, 2 * MIB..4 * MIB, 4 * MIB..8 * MIB]);
}

#[test]
fn damage_that_is_not_about_length_is_found_at_once() {
    let unknown_type = Raw::head(3, 1, 0).tensor("weight", &[32], 20, 0).0;
    let source = Sparse::new(unknown_type, 1 << 40);
    assert!(matches!(block_on(Gguf::open(&source)), Err(GgufError::UnsupportedType { .. })));
    assert_eq!(source.bytes_read(), MIB);

    let unknown_value = Raw::head(3, 0, 1).string("key").u32(77).0;
    let source = Sparse::new(unknown_value, 1 << 40);
    assert!(matches!(block_on(Gguf::open(&source)), Err(GgufError::Header { at: 39, .. })));
    assert_eq!(source.bytes_read(), 2 * MIB);
}

#[test]
fn a_lying_length_never_reads_the_whole_file() {
    let source = Sparse::new(Raw::head(3, 0, 1).u64(1 << 29).0, 1 << 40);
    let error = block_on(Gguf::open(&source)).unwrap_err();
    assert!(error.to_string().contains("does not end within 64 MiB"), "{error}");
    assert_eq!(source.bytes_read(), 64 * MIB);
}

#[test]
fn memory_answers_only_ranges_that_it_has() {
    let source = MemorySource(Bytes::from_static(b"abcdef"));
    assert_eq!(block_on(source.read(2..4)).unwrap(), "cd");
    assert_eq!((source.len(), source.is_empty()), (6, false));
    #[allow(clippy::reversed_empty_ranges, reason = "a reversed range is one of the bad ones")]
    for range in [5..7, 7..8, 4..2, u64::MAX - 1..u64::MAX] {
        assert!(matches!(block_on(source.read(range)), Err(SourceError::OutOfRange { len: 6, .. })));
    }
}

#[test]
fn a_source_that_gives_too_little_is_an_error() {
    struct Shrunk;
    impl ModelSource for Shrunk {
        fn len(&self) -> u64 {
            1000
        }

        async fn read(&self, _: Range<u64>) -> Result<Bytes, SourceError> {
            Ok(Bytes::from_static(b"GGUF"))
        }
    }
    let error = block_on(Gguf::open(&Shrunk)).unwrap_err();
    assert!(matches!(error, GgufError::Source(SourceError::Short { found: 4, .. })), "{error}");
}
