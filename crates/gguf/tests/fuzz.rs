//! Mutated files, a fixed number from a fixed seed: opening them never panics and never takes the memory that a lying
//! length asks for.

mod support;

use std::alloc::System;

use cap::Cap;
use proptest::prelude::*;
use rand_mt::Mt64;
use support::{check_invariants, open, sample};

/// Fails allocations above its limit, which aborts the test: memory taken on the word of a lying length shows.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 64 << 20);

/// Offsets of interest: mutations pile up in the head of the file, where the lies matter.
fn place(random: u64, head: usize, len: usize) -> usize {
    let within = if random.is_multiple_of(8) { len } else { head };
    (random >> 8) as usize % within
}

#[test]
fn twenty_thousand_mutated_files_neither_panic_nor_balloon() {
    let original = sample().to_bytes().unwrap();
    let head =
        open(original.clone()).unwrap().tensors().map(|tensor| tensor.range.start).min().unwrap() as usize;
    let mut random = Mt64::new(0x6775_6766);
    let mut opened = 0;
    for _ in 0..20_000 {
        let mut file = original.clone();
        for _ in 0..=random.next_u64() % 4 {
            let at = place(random.next_u64(), head.min(file.len()), file.len());
            let value = random.next_u64();
            match random.next_u64() % 6 {
                0 => file[at] ^= 1 << (value % 8),
                1 => file[at] = value as u8,
                // A length, count, dimension or offset gone large.
                2 => overwrite(&mut file, at, &(value >> (value % 64)).to_le_bytes()),
                3 => overwrite(&mut file, at, &[0xff; 8]),
                4 => {
                    let piece = original[at..].iter().copied().take(value as usize % 64).collect::<Vec<_>>();
                    let to = place(random.next_u64(), head, original.len());
                    overwrite(&mut file, to, &piece);
                }
                _ => file.truncate(at.max(1)),
            }
        }
        let len = file.len() as u64;
        if let Ok(gguf) = open(file) {
            check_invariants(&gguf, len);
            opened += 1;
        }
    }
    // Both outcomes must be exercised, or the mutations are too tame or too wild.
    assert!((1_000..19_000).contains(&opened), "{opened} of 20000 opened");
}

/// Writes what fits; nothing behind the end, where an earlier mutation may have cut.
fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in file.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16)) {
        let mut file = sample().to_bytes().unwrap();
        for (index, value) in flips {
            let at = index.index(file.len());
            file[at] = value;
        }
        let len = file.len() as u64;
        if let Ok(gguf) = open(file) {
            check_invariants(&gguf, len);
        }
    }

    #[test]
    fn noise_behind_the_magic_never_panics(version in 0u32..5, noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend(noise);
        let len = file.len() as u64;
        if let Ok(gguf) = open(file) {
            check_invariants(&gguf, len);
        }
    }
}
