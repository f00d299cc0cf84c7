//! The slot image: round trips, and every way in which bytes can be wrong.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reprise_gguf::TokenId;
use reprise_kv::image::{
    Encoder, Expected, Image, ImageError, ImageHeader, KvType, Layout, ShortKey, StateKey,
};

/// 2 layers, 1 head of 2: 16 bytes a token.
fn layout() -> Layout {
    Layout::new(2, 1, 2, 2)
}

fn expected() -> Expected {
    Expected { fingerprint: [7; 32], layout: layout(), vocab: 1_000, max_tokens: 256 }
}

fn header(tokens: u32) -> ImageHeader {
    ImageHeader {
        fingerprint: [7; 32],
        layout: layout(),
        tokens: (0..tokens).map(TokenId).collect(),
        exact: tokens,
    }
}

/// Payloads that differ from block to block.
fn payloads(header: &ImageHeader) -> Vec<Vec<u8>> {
    let bytes =
        |block: usize| (0..header.payload_len(block)).map(move |i| (i as u8).wrapping_add(block as u8 * 31));
    (0..header.blocks()).map(|block| bytes(block).collect()).collect()
}

fn encode(header: ImageHeader, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = Encoder::new(header);
    let mut image = encoder.header().to_vec();
    for payload in payloads {
        image.extend(encoder.frame(payload).expect("the payload has its length"));
        image.extend(payload);
    }
    assert_eq!(image.len() as u64, encoder.image_len());
    image
}

fn image(tokens: u32) -> Vec<u8> {
    encode(header(tokens), &payloads(&header(tokens)))
}

/// The whole way of a restore; gives the payloads.
fn decode(bytes: &[u8], expected: &Expected) -> Result<(ImageHeader, Vec<Vec<u8>>), ImageError> {
    let image = Image::decode(bytes, expected)?;
    let payloads = image.frames().map(|payload| payload.map(<[u8]>::to_vec)).collect::<Result<_, _>>();
    assert_eq!(image.verify().err(), payloads.as_ref().err().cloned());
    Ok((image.header().clone(), payloads?))
}

fn refusal(bytes: &[u8]) -> ImageError {
    decode(bytes, &expected()).expect_err("the image is bad")
}

#[test]
fn what_was_saved_is_restored() {
    for tokens in [0, 1, 31, 32, 33, 64, 84, 256] {
        let header = header(tokens);
        let payloads = payloads(&header);
        let decoded = decode(&encode(header.clone(), &payloads), &expected());
        assert_eq!(decoded, Ok((header, payloads)), "{tokens} tokens");
    }
}

#[test]
fn the_last_block_is_partial() {
    let header = header(70);
    assert_eq!(
        (header.blocks(), header.tokens_in(1), header.tokens_in(2), header.tokens_in(3)),
        (3, 32, 6, 0)
    );
    assert_eq!(header.payload_len(2), 6 * 16);
}

#[test]
fn the_bytes_are_those_documented() {
    let bytes = image(2);
    assert_eq!(bytes[..8], *b"RPRSKV\r\n");
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    assert_eq!([number(8), number(12)], [2, 2], "version, tokens");
    assert_eq!(bytes[16..48], [7; 32]);
    assert_eq!([48, 52, 56, 60, 64, 68].map(number), [2, 1, 2, 2, 1, 32], "layout");
    assert_eq!(number(72), 2, "exact");
    assert_eq!([number(76), number(80)], [0, 1], "token ids");
    assert_eq!(bytes[92..100], 32_u64.to_le_bytes(), "payload length");
    assert_eq!(bytes.len(), 84 + 8 + 16 + 32);
}

#[test]
fn the_digest_tells_images_apart() {
    let digest = |header: ImageHeader, payloads: &[Vec<u8>]| {
        let mut encoder = Encoder::new(header);
        for payload in payloads {
            encoder.frame(payload).expect("its length");
        }
        encoder.digest()
    };
    let whole = digest(header(70), &payloads(&header(70)));
    assert_eq!(digest(header(70), &payloads(&header(70))), whole);
    for block in 0..3 {
        let mut payloads = payloads(&header(70));
        payloads[block][5] ^= 1;
        assert_ne!(digest(header(70), &payloads), whole, "block {block}");
    }
    let mut other = header(70);
    other.tokens[69] = TokenId(999);
    assert_ne!(digest(other, &payloads(&header(70))), whole);
    let other = ImageHeader { fingerprint: [8; 32], ..header(70) };
    assert_ne!(digest(other, &payloads(&header(70))), whole);
}

#[test]
fn every_truncation_is_found() {
    let bytes = image(70);
    for len in 0..bytes.len() {
        let error = refusal(&bytes[..len]);
        let truncated = matches!(error, ImageError::Truncated { found, .. } if found == len as u64);
        assert!(truncated || len < 8 && error == ImageError::NotAnImage, "{len} bytes: {error}");
    }
}

#[test]
fn trailing_bytes_are_found() {
    let mut bytes = image(70);
    bytes.push(0);
    assert_eq!(refusal(&bytes), ImageError::Trailing { extra: 1 });
}

#[test]
fn every_flipped_byte_is_found() {
    let bytes = image(70);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let error = refusal(&bytes);
            // Damage is never taken for a misfit, which would send the operator after the wrong thing.
            let damage = matches!(
                error,
                ImageError::NotAnImage
                    | ImageError::Version { .. }
                    | ImageError::Truncated { .. }
                    | ImageError::HeaderChecksum
                    | ImageError::BlockLength { .. }
                    | ImageError::BlockChecksum { .. }
            );
            assert!(damage, "byte {at} ^ {flip:#x}: {error}");
        }
    }
}

fn key(byte: u8) -> StateKey {
    StateKey::derive(&[byte; 16]).expect("long enough")
}

fn tagged(tokens: u32, key: &StateKey) -> Vec<u8> {
    let mut image = image(tokens);
    let trailer = Encoder::new(header(tokens)).trailer(key, image.chunks(7));
    image.extend(trailer);
    image
}

#[test]
fn a_tag_is_known_to_who_has_the_key() {
    for tokens in [0, 70] {
        let bytes = tagged(tokens, &key(1));
        let authentic = |bytes: &[u8], key: &StateKey| Image::decode(bytes, &expected())?.authenticate(key);
        assert_eq!(authentic(&bytes, &key(1)), Ok(()));
        assert_eq!(authentic(&bytes, &key(2)), Err(ImageError::Tag));
        assert_eq!(authentic(&image(tokens), &key(1)), Err(ImageError::Untagged));
        // Who has no key sees the same image.
        assert_eq!(decode(&bytes, &expected()), decode(&image(tokens), &expected()));
        // Every byte counts, the tag's too; with a header's checksum repaired or without.
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let end = 72 + tokens as usize * 4;
            let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
            assert!(authentic(&bytes, &key(1)).is_err(), "byte {at}");
            bytes[end..end + 8].copy_from_slice(&checksum.to_le_bytes());
            assert!(authentic(&bytes, &key(1)).is_err() || (end..end + 8).contains(&at), "byte {at}");
        }
    }
}

#[test]
fn trailers_are_whole() {
    let (bytes, plain) = (tagged(70, &key(1)), image(70).len());
    for len in plain + 1..bytes.len() {
        assert_eq!(refusal(&bytes[..len]), ImageError::Trailing { extra: (len - plain) as u64 });
    }
    assert_eq!(refusal(&[&bytes[..], &[0]].concat()), ImageError::Trailing { extra: 41 });
    let mut other = bytes;
    other[plain] ^= 1;
    assert_eq!(refusal(&other), ImageError::Trailing { extra: 40 });
}

#[test]
fn keys_are_long_and_secret() {
    assert_eq!(StateKey::derive(&[1; 15]).map(drop), Err(ShortKey(15)));
    assert_eq!(ShortKey(15).to_string(), "a key needs at least 16 bytes, not 15");
    assert_eq!(format!("{:?}", key(1)), "StateKey");
}

#[test]
fn the_digest_covers_the_tag() {
    let digest = |key: Option<StateKey>| {
        let mut encoder = Encoder::new(header(0));
        let head = encoder.header().to_vec();
        if let Some(key) = key {
            encoder.trailer(&key, [&head[..]]);
        }
        encoder.digest()
    };
    assert_ne!(digest(Some(key(1))), digest(Some(key(2))));
    assert_ne!(digest(Some(key(1))), digest(None));
}

#[test]
fn swapped_and_foreign_blocks_are_found() {
    let bytes = image(96);
    let frame = 16 + 32 * 16;
    let start = bytes.len() - 3 * frame;
    let mut swapped = bytes.clone();
    swapped[start..start + 2 * frame].rotate_left(frame);
    assert_eq!(refusal(&swapped), ImageError::BlockChecksum { block: 0 });
    // The same block of an image with other tokens.
    let mut other = header(96);
    other.tokens[0] = TokenId(999);
    let mut foreign = encode(other, &payloads(&header(96)));
    let from = foreign.len() - frame;
    foreign[from..].copy_from_slice(&bytes[from..]);
    assert_eq!(refusal(&foreign), ImageError::BlockChecksum { block: 2 });
}

#[test]
fn lying_lengths_cost_nothing() {
    // A header that promises 4 billion tokens, and a frame that promises more than there is.
    let mut bytes = image(70);
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refusal(&bytes), ImageError::Truncated { wanted, .. } if wanted > 16_000_000_000));
    let mut bytes = image(70);
    let frame = 76 + 70 * 4 + 8;
    bytes[frame..frame + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(refusal(&bytes), ImageError::BlockLength { block: 0, found: u64::MAX, expected: 512 });
}

#[test]
fn an_absurd_layout_is_refused_even_with_a_good_checksum() {
    for layout in
        [Layout::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX), Layout { block_tokens: 0, ..layout() }]
    {
        let absurd = ImageHeader { layout, ..header(3) };
        let bytes = Encoder::new(absurd).header().to_vec();
        assert!(matches!(refusal(&bytes), ImageError::Layout { .. }));
        // Even if the host asked for it.
        assert!(Image::decode(&bytes, &Expected { layout, ..expected() }).is_err());
    }
}

#[test]
fn misfits_say_what_to_do() {
    let bytes = image(70);
    let refuse = |expected: Expected| decode(&bytes, &expected).expect_err("it does not fit").to_string();
    let text = refuse(Expected { fingerprint: [9; 32], ..expected() });
    assert!(
        text.contains("another model") && text.contains("07070707") && text.contains("load that model"),
        "{text}"
    );
    let text = refuse(Expected { layout: Layout::new(3, 1, 2, 2), ..expected() });
    assert!(text.contains("KV layout") && text.contains("save the slot again"), "{text}");
    let text = refuse(Expected { max_tokens: 69, ..expected() });
    assert_eq!(
        text,
        "the slot image holds 70 tokens, the slot only 69; start the server with a larger context"
    );
    let text = refuse(Expected { vocab: 69, ..expected() });
    assert_eq!(text, "token 69 at position 69 of the slot image is outside the vocabulary of 69");
}

#[test]
fn other_files_are_recognised() {
    // llama-server's slot file, an empty file, our magic after a text conversion.
    for bytes in [&b"qsgg\x04\0\0\0"[..], b"", b"RPRSKV\n\n\x01\0\0\0"] {
        assert_eq!(refusal(bytes), ImageError::NotAnImage);
    }
}

#[test]
fn an_unknown_kv_type_is_named() {
    let mut bytes = Encoder::new(header(0)).header()[..76].to_vec();
    bytes[64] = 7;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend(checksum.to_le_bytes());
    assert_eq!(refusal(&bytes), ImageError::KvType { found: 7 });
}

#[test]
fn quantised_types_are_kept_apart() {
    let of = |keys, values| Layout { keys, values, head_dim: 32, head_dim_v: 64, ..layout() };
    let types = [KvType::F16, KvType::Q8_0, KvType::Q4_0];
    for (keys, values) in types.into_iter().flat_map(|keys| types.map(|values| (keys, values))) {
        let header = ImageHeader { layout: of(keys, values), ..header(3) };
        let mut encoder = Encoder::new(header.clone());
        let mut bytes = encoder.header().to_vec();
        let payload = vec![1; header.payload_len(0) as usize];
        bytes.extend(encoder.frame(&payload).expect("a payload of the layout"));
        bytes.extend(&payload);
        let expected = Expected { layout: of(keys, values), ..expected() };
        assert_eq!(Image::decode(&bytes, &expected).expect("its own types").header(), &header);
        let other = Expected { layout: of(values, keys), ..expected };
        assert_eq!(Image::decode(&bytes, &other).is_ok(), keys == values, "{keys:?}, {values:?}");
    }
}

#[test]
fn the_encoder_refuses_wrong_payloads() {
    let mut encoder = Encoder::new(header(33));
    assert_eq!(encoder.frame(&[0; 5]), Err(ImageError::Payload { block: 0, found: 5, expected: 512 }));
    assert!(encoder.frame(&[0; 512]).is_ok());
    assert!(encoder.frame(&[0; 16]).is_ok());
    assert!(encoder.frame(&[]).is_err(), "there is no third block");
}

/// An image with edits: overwritten bytes, a cut, a tail.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let tail = prop::collection::vec(any::<u8>(), 0..64);
    (0..70_u32, edits, prop::option::of(any::<prop::sample::Index>()), tail, any::<bool>()).prop_map(
        |(tokens, edits, cut, tail, repair)| {
            let mut bytes = image(tokens);
            edits.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = byte);
            if repair {
                // So that the fields behind the checksum are reached too.
                let header = 72 + tokens as usize * 4;
                let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..header]);
                bytes[header..header + 8].copy_from_slice(&checksum.to_le_bytes());
            }
            let len = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
            bytes.truncate(len);
            bytes.extend(tail);
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_never_panic_and_pass_only_whole(bytes in damaged()) {
        if let Ok((header, payloads)) = decode(&bytes, &expected()) {
            // What passes is exactly what it would be saved as.
            prop_assert_eq!(encode(header, &payloads), bytes);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let framed = [&image(1)[..12], &noise].concat();
        prop_assert!(decode(&noise, &expected()).is_err());
        prop_assert!(decode(&framed, &expected()).is_err());
    }
}
