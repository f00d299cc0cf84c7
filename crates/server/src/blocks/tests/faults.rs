//! A thousand things that may happen to the files. A block that is served is the one that was written, or it is absent.

use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;

use super::*;

const FAULTS: u64 = 1000;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        self.0 = hasher.finish();
        (self.0 % end as u64) as usize
    }
}

/// Does one thing to the files; its name.
fn damage(folder: &Path, blocks: &[Block], dice: &mut Dice) -> &'static str {
    let mut file = || blocks[dice.below(blocks.len())].file(folder);
    let (victim, other) = (file(), file());
    let mut bytes = fs::read(&victim).unwrap();
    match dice.below(11) {
        0 => {
            bytes.truncate(dice.below(bytes.len()));
            fs::write(victim, bytes).unwrap();
            "cut off"
        }
        1..4 => {
            let bit = dice.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(victim, bytes).unwrap();
            "a flipped bit"
        }
        4 => {
            bytes.extend(0..=dice.below(200) as u8);
            fs::write(victim, bytes).unwrap();
            "more bytes"
        }
        5 => {
            let third = folder.join("third");
            fs::rename(&victim, &third).unwrap();
            // The same file, now and then.
            let _ = fs::rename(&other, &victim);
            fs::rename(&third, &other).unwrap();
            "two files swapped"
        }
        6 => {
            let at = dice.below(bytes.len());
            let length = dice.below(bytes.len() - at);
            bytes[at..at + length].fill(0);
            fs::write(victim, bytes).unwrap();
            "a hole"
        }
        7 => {
            fs::remove_file(&victim).unwrap();
            fs::create_dir(&victim).unwrap();
            "a folder in place of a file"
        }
        8 => {
            fs::remove_dir_all(victim.parent().unwrap()).unwrap();
            fs::write(victim.parent().unwrap(), b"x").unwrap();
            "a file in place of a folder"
        }
        9 => {
            fs::set_permissions(victim, Permissions::from_mode(0o000)).unwrap();
            "no permission"
        }
        _ => {
            fs::remove_dir_all(victim.parent().unwrap()).unwrap();
            "a folder that is gone"
        }
    }
}

/// What an operator does about what the store cannot mend itself.
fn mend(folder: &Path, blocks: &[Block]) {
    for block in blocks {
        let file = block.file(folder);
        let subfolder = file.parent().unwrap();
        if subfolder.is_file() {
            fs::remove_file(subfolder).unwrap();
        } else if file.is_dir() {
            fs::remove_dir(file).unwrap();
        }
    }
}

#[test]
fn a_thousand_faults() {
    let folder = tempfile::tempdir().unwrap();
    let blocks: Vec<Block> = (0..4).flat_map(|seed| chain(seed, 6, 300)).collect();
    let mut store = open(folder.path());
    write_all(&store, &blocks);
    let mut lost = 0;
    for seed in 0..FAULTS {
        let dice = &mut Dice(seed);
        let fault = damage(folder.path(), &blocks, dice);
        if dice.below(4) == 0 {
            drop(store);
            store = open(folder.path());
        }
        let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key).collect();
        assert!(block_on(store.find(&keys)) <= keys.len());
        for block in &blocks {
            match block.fetch(&store) {
                Some(payload) => assert_eq!(payload, block.payload, "{fault}, seed {seed}"),
                None => {
                    lost += 1;
                    assert!(block_on(store.read(&block.key)).is_none(), "{fault}, seed {seed}");
                }
            }
        }
        // Half of the time the server meets the damage while it writes, too.
        if dice.below(2) == 0 {
            write_all(&store, &blocks);
        }
        mend(folder.path(), &blocks);
        write_all(&store, &blocks);
        for block in &blocks {
            assert_eq!(block.fetch(&store).as_deref(), Some(&block.payload[..]), "{fault}, seed {seed}");
        }
    }
    assert!(lost > FAULTS / 2, "only {lost} blocks were lost: the faults do nothing");
}
