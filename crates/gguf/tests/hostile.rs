//! Files that lie, are cut off, or are something else: refused in words that say what to do.

mod support;

use support::{Raw, open, refusal, sample};

/// One F32 matrix of 4 rows of 8, as `tensor` describes it, and 128 bytes of data.
fn with_tensor(dims: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    Raw::head(3, 1, 0).tensor("weight", dims, dtype, offset).data(128)
}

#[track_caller]
fn refused(bytes: Vec<u8>, parts: &[&str]) {
    let text = refusal(bytes);
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn other_files_are_not_gguf() {
    refused(Vec::new(), &["not a GGUF file", "empty", ".gguf model"]);
    refused(b"GG".to_vec(), &["not a GGUF file", "\"GG\""]);
    refused(b"<!DOCTYPE html><html>".to_vec(), &["not a GGUF file", "<!DOCTYPE html>"]);
    refused(b"FUGG\0\0\0\x03".to_vec(), &["not a GGUF file"]);
}

#[test]
fn only_versions_2_and_3_are_read() {
    assert!(open(Raw::head(2, 0, 0).0).is_ok());
    assert!(open(Raw::head(3, 0, 0).0).is_ok());
    refused(Raw::head(1, 0, 0).0, &["version 1 is not supported", "convert the model again"]);
    refused(Raw::head(4, 0, 0).0, &["version 4 is not supported", "newer than this program"]);
    refused(Raw::head(3u32.swap_bytes(), 0, 0).0, &["big-endian"]);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample().to_bytes().unwrap();
    let last_byte = open(bytes.clone()).unwrap().tensors().map(|tensor| tensor.range.end).max().unwrap();
    for len in 0..last_byte as usize {
        assert!(open(bytes[..len].to_vec()).is_err(), "opened with {len} of {last_byte} bytes");
    }
    assert!(open(bytes[..last_byte as usize].to_vec()).is_ok());
}

#[test]
fn truncated_tensor_data_says_where() {
    let bytes = with_tensor(&[8, 4], 0, 0);
    let (end, len) = (bytes.len(), bytes.len() - 40);
    refused(
        bytes[..len].to_vec(),
        &[
            "truncated",
            "tensor 'weight'",
            &format!("ends at byte {end}, the file has {len}"),
            "Download it again",
        ],
    );
}

#[test]
fn counts_that_the_file_cannot_hold_are_refused() {
    for (tensors, entries) in [(u64::MAX, 0), (0, u64::MAX), (1 << 29, 1 << 29), (100, 100)] {
        refused(Raw::head(3, tensors, entries).data(64), &["damaged or cut off"]);
    }
}

#[test]
fn lengths_that_the_file_cannot_hold_are_refused() {
    for length in [u64::MAX, 1 << 62, 1 << 30, 1000] {
        refused(Raw::head(3, 0, 1).u64(length).data(64), &["damaged or cut off", "string length"]);
        let array = Raw::head(3, 0, 1).string("key").u32(9).u32(8).u64(length).data(64);
        refused(array, &["damaged or cut off", "array"]);
    }
}

#[test]
fn arrays_nested_without_end_are_refused() {
    let nested = (0..10_000).fold(Raw::head(3, 0, 1).string("key").u32(9), |file, _| file.u32(9).u64(1));
    refused(nested.0, &["nesting depth"]);
}

#[test]
fn dimensions_that_cannot_be_are_refused() {
    refused(with_tensor(&[], 0, 0), &["'weight'", "no dimensions"]);
    refused(with_tensor(&[8, 0], 0, 0), &["'weight'", "empty dimension"]);
    refused(with_tensor(&[1 << 40, 1 << 40], 0, 0), &["'weight'", "impossible dimensions"]);
    refused(with_tensor(&[u64::MAX], 0, 0), &["'weight'"]);
    refused(with_tensor(&[1 << 62], 0, 0), &["'weight'"]);
    refused(with_tensor(&[1, 1, 1, 1, 1], 0, 0), &["'weight'", "5 dimensions"]);
    refused(with_tensor(&[16, 2], 8, 0), &["rows of 16 elements", "multiple of 32", "Q8_0"]);
}

#[test]
fn offsets_that_cannot_be_are_refused() {
    assert!(open(with_tensor(&[8, 4], 0, 0)).is_ok());
    refused(with_tensor(&[8, 4], 0, 4), &["offset 4", "multiple of 32"]);
    refused(with_tensor(&[8, 4], 0, 32), &["truncated", "'weight'"]);
    refused(with_tensor(&[8, 4], 0, u64::MAX - 31), &["impossible offset"]);
}

#[test]
fn overlapping_tensors_are_refused() {
    let file = Raw::head(3, 2, 0).tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32);
    refused(file.data(96), &["'a' overlaps tensor 'b'"]);
}

#[test]
fn names_given_twice_are_refused() {
    let tensors = Raw::head(3, 2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32);
    refused(tensors.data(64), &["tensor name occurs twice"]);
    let keys = Raw::head(3, 0, 2).entry("key", 1).entry("key", 2);
    refused(keys.0, &["metadata key occurs twice"]);
}

#[test]
fn types_without_kernels_are_named_with_their_tensor() {
    for (id, name) in [(20, "IQ4_NL (20)"), (39, "MXFP4 (39)"), (16, "IQ2_XXS (16)"), (200, "number 200")] {
        for dims in [&[32][..], &[32, 2], &[32, 1, 2], &[32, 1, 1, 2]] {
            refused(with_tensor(dims, id, 0), &["'weight'", name, "not supported", "Q4_K"]);
        }
    }
}

#[test]
fn alignment_must_be_a_power_of_two() {
    let aligned =
        |value| Raw::head(3, 1, 1).entry("general.alignment", value).tensor("w", &[8], 0, 0).data(64);
    assert!(open(aligned(32)).is_ok());
    assert!(open(aligned(8)).is_ok());
    for value in [0, 1, 4, 24, u32::MAX] {
        refused(aligned(value), &["'general.alignment'", "power of two", &value.to_string()]);
    }
    let byte = Raw(Raw::head(3, 0, 1).string("general.alignment").u32(0).0.into_iter().chain([0]).collect());
    refused(byte.0, &["'general.alignment'"]);
    refused(
        Raw::head(3, 0, 1).string("general.alignment").u32(10).u64(64).0,
        &["'general.alignment'", "the u64 64"],
    );
}
