//! The printable alphabet of byte-level BPE, and byte tokens.

use std::collections::HashSet;

use super::{byte_of, byte_value, push_byte_level};

fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_byte_level(text, &mut out);
    out
}

#[test]
fn every_byte_has_one_character() {
    let found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
    assert_eq!(found.len(), 256);
    assert_eq!(found.into_iter().collect::<HashSet<_>>().len(), 256);
}

#[test]
fn known_characters() {
    assert_eq!(bytes("ĠaĊ"), b" a\n");
    assert_eq!(bytes("Ã©"), "é".as_bytes());
    assert_eq!(bytes("ŃĀġ"), [0xad, 0x00, 0x7f], "the last, the first and one between of the shifted ones");
}

#[test]
fn a_character_outside_the_alphabet_shows() {
    assert_eq!(bytes("a世"), "a[UNK_BYTE_0xe4b896a世]".as_bytes());
}

#[test]
fn byte_tokens() {
    assert_eq!(byte_value("<0x0A>"), Some(10));
    assert_eq!(byte_value("<0xFF>"), Some(255));
    assert_eq!(byte_value("<0xGG>"), None);
    assert_eq!(byte_value("x"), None);
}
