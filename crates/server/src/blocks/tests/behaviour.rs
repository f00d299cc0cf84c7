//! What is kept, what goes, and what is seen of other servers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use clap::Parser;

use super::*;
use crate::cli::Cli;

#[test]
fn blocks_outlive_the_store_in_files_that_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/cache");
    let blocks = chain(1, 3, 1000);
    let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key).collect();
    let store = open(&path);
    assert_eq!(block_on(store.find(&keys)), 0);
    for block in &blocks {
        assert!(store.write(block.key, block.parts()));
        assert!(store.holds(&block.key) && !store.write(block.key, block.parts()), "queued already");
        assert_eq!(block.fetch(&store).unwrap(), block.payload, "served while it waits");
    }
    block_on(store.flush());
    drop(store);

    let store = open(&path);
    assert_eq!(block_on(store.find(&keys)), 3);
    assert!(store.holds(&keys[2]) && !store.write(keys[2], blocks[2].parts()), "held already");
    for block in &blocks {
        assert_eq!(block.fetch(&store).unwrap(), block.payload);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = block.file(&path);
        assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&path)), (0o600, 0o700, 0o700));
    }
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.bytes, stats.dropped), (3, 3 * blocks[0].size(), 0));
}

#[test]
fn a_run_ends_at_the_first_that_is_missing_and_a_discarded_block_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let blocks = chain(1, 3, 100);
    let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key).collect();
    write_all(&store, &blocks);
    store.discard(&keys[1]);
    assert_eq!((block_on(store.find(&keys)), store.holds(&keys[1])), (1, false));
    assert!(block_on(store.read(&keys[1])).is_none() && !blocks[1].file(folder.path()).exists());
    assert_eq!((store.stats().damaged, store.stats().blocks), (1, 2));
    write_all(&store, &blocks);
    assert_eq!(block_on(store.find(&keys)), 3);
}

#[test]
fn a_queue_that_is_full_drops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (large, small) = (&chain(1, 1, 1000)[0], &chain(2, 1, 10)[0]);
    let store = limited(folder.path(), Limits { queue: 999, ..Limits::new(None) });
    assert!(!store.write(large.key, large.parts()) && !store.holds(&large.key));
    assert!(store.write(small.key, small.parts()));
    assert!(!store.write(BlockKey::from_bytes([1; 32]), vec![Bytes::from_static(b"no block")]));
    block_on(store.flush());
    assert_eq!(small.fetch(&store).unwrap(), small.payload);
    assert_eq!((store.stats().dropped, store.stats().blocks), (2, 1));
}

#[test]
fn the_least_recently_used_make_way_and_chains_are_shortened_from_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (old, used, new) = (chain(1, 3, 100), chain(2, 3, 100), chain(3, 2, 100));
    let size = old[0].size();
    write_all(&open(folder.path()), old.iter().chain(&used));
    old.iter().chain(&used).for_each(|block| age(&block.file(folder.path()), 1000));
    // The middle of a chain was used: so was what is before it.
    age(&used[1].file(folder.path()), 500);

    let store = limited(folder.path(), Limits { settle: 0, ..Limits::new(Some(6 * size)) });
    let held = |blocks: &[Block]| {
        let on_disk = |block: &Block| block.file(folder.path()).exists();
        assert!(blocks.iter().all(|block| on_disk(block) == store.holds(&block.key)));
        blocks.iter().filter(|block| on_disk(block)).count()
    };
    write_all(&store, &new[..1]);
    assert_eq!((held(&old) + held(&used), store.stats().bytes), (5, 6 * size));
    write_all(&store, &new);
    assert_eq!(held(&old) + held(&used), 4);
    assert!(store.holds(&used[0].key) && store.holds(&used[1].key));
    let more = chain(4, 4, 100);
    write_all(&store, &more);
    assert_eq!((held(&old), held(&used), held(&new), held(&more)), (0, 0, 2, 4));
    assert_eq!((store.stats().dropped, store.stats().bytes), (0, 6 * size));
}

#[test]
fn a_read_keeps_a_block_and_is_noted_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (&chain(1, 1, 100)[0], &chain(2, 1, 100)[0]);
    write_all(&open(folder.path()), [first, second]);
    age(&first.file(folder.path()), 1000);
    age(&second.file(folder.path()), 30);
    let before = fs::metadata(second.file(folder.path())).unwrap().mtime();

    let store = limited(folder.path(), Limits { settle: 0, ..Limits::new(Some(2 * first.size())) });
    assert!(first.fetch(&store).is_some() && second.fetch(&store).is_some());
    let age = fs::metadata(first.file(folder.path())).unwrap().modified().unwrap().elapsed().unwrap();
    assert!(age < Duration::from_secs(100), "{age:?}");
    let after = fs::metadata(second.file(folder.path())).unwrap().mtime();
    assert_eq!(before, after, "noted at most once a minute");
}

#[test]
fn what_was_just_written_does_not_make_way() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (&chain(1, 1, 100)[0], &chain(2, 1, 100)[0]);
    let store = limited(folder.path(), Limits { settle: 1000, ..Limits::new(Some(first.size())) });
    write_all(&store, [first, second]);
    assert!(store.holds(&first.key) && !store.holds(&second.key));
    assert_eq!((store.stats().blocks, store.stats().dropped), (1, 1));
}

#[test]
fn a_smaller_budget_holds_from_the_start_and_a_clock_that_was_ahead_saves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(1, 4, 100);
    write_all(&open(folder.path()), &blocks);
    let ahead = SystemTime::now() + Duration::from_secs(1 << 30);
    fs::File::open(blocks[3].file(folder.path())).unwrap().set_modified(ahead).unwrap();
    let store = limited(folder.path(), Limits { settle: 0, ..Limits::new(Some(2 * blocks[0].size())) });
    let held: Vec<bool> = blocks.iter().map(|block| store.holds(&block.key)).collect();
    assert_eq!(held, [true, true, false, false]);
}

#[test]
fn servers_that_share_a_folder_see_each_others_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(1, 2, 100);
    let (here, there) = (open(folder.path()), open(folder.path()));
    write_all(&there, &blocks);
    assert!(!here.holds(&blocks[0].key), "not known without looking");
    assert_eq!(block_on(here.find(&[blocks[0].key, blocks[1].key])), 2);
    assert_eq!(blocks[0].fetch(&here).unwrap(), blocks[0].payload);
    assert!(here.holds(&blocks[0].key));
    let inode = || fs::metadata(blocks[1].file(folder.path())).unwrap().ino();
    let before = inode();
    write_all(&here, &blocks);
    assert_eq!((inode(), here.stats().blocks), (before, 2), "not written twice");
    there.discard(&blocks[0].key);
    assert!(blocks[0].fetch(&here).is_none() && !here.holds(&blocks[0].key));
}

#[test]
fn what_another_server_has_just_used_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (used, idle, new) = (&chain(1, 1, 100)[0], &chain(2, 1, 100)[0], &chain(3, 1, 100)[0]);
    write_all(&open(folder.path()), [used, idle]);
    age(&used.file(folder.path()), 2000);
    age(&idle.file(folder.path()), 1000);
    let store = limited(folder.path(), Limits { settle: 0, ..Limits::new(Some(2 * new.size())) });
    age(&used.file(folder.path()), 10);
    write_all(&store, [new]);
    assert!(store.holds(&used.key) && !store.holds(&idle.key) && store.holds(&new.key));
}

#[test]
fn what_other_servers_write_counts_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = chain(1, 2, 100);
    let limits = Limits { rescan: Duration::from_millis(5), ..Limits::new(None) };
    let store = limited(folder.path(), limits);
    write_all(&open(folder.path()), &blocks);
    let begin = std::time::Instant::now();
    while store.stats().blocks < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10), "never seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn old_leftovers_are_removed_and_what_is_not_ours_stays() {
    let folder = tempfile::tempdir().unwrap();
    let block = &chain(1, 1, 100)[0];
    write_all(&open(folder.path()), [block]);
    let subfolder = block.file(folder.path()).parent().unwrap().to_owned();
    let foreign = format!("{}.kv", "0".repeat(64));
    fs::create_dir_all(folder.path().join("00")).unwrap();
    fs::create_dir(folder.path().join("zz")).unwrap();
    let files = [
        (subfolder.join(".reprise-tmp-old"), 1000, false),
        (subfolder.join(".reprise-tmp-young"), 10, true),
        (folder.path().join("00").join(&foreign), 1000, false),
        (folder.path().join("00").join(format!("{}.kv", "0".repeat(63) + "1")), 10, true),
        (subfolder.join("notes.txt"), 1000, true),
        (subfolder.join(&foreign), 1000, true),
        (folder.path().join("zz").join(&foreign), 1000, true),
        (folder.path().join("README"), 1000, true),
    ];
    for (path, seconds, _) in &files {
        fs::write(path, b"something").unwrap();
        age(path, *seconds);
    }
    age(&block.file(folder.path()), 1000);
    let store = open(folder.path());
    for (path, _, stays) in &files {
        assert_eq!(path.exists(), *stays, "{}", path.display());
    }
    assert_eq!((store.stats().blocks, block.fetch(&store).is_some()), (1, true));
}

#[test]
fn flags_make_the_store_and_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let budget = |flags: &[&str]| {
        let cli = Cli::try_parse_from([&["x"], flags].concat()).unwrap();
        super::super::open(&cli.cache).unwrap().map(|store| store.stats().budget)
    };
    assert_eq!(budget(&["--cache-disk", "7"]), None);
    assert_eq!(budget(&["--cache-path", path, "--cache-disk", "0"]), None);
    assert_eq!(budget(&["--cache-path", path, "--cache-disk", "7"]), Some(Some(7 << 20)));
    assert_eq!(budget(&["--cache-path", path, "--cache-disk", "-1"]), Some(None));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = format!("{:#}", DirBlocks::open(&path, Limits::new(None)).unwrap_err());
        assert!(error.contains("--cache-path") && error.contains(path.to_str().unwrap()), "{error}");
    }
}
