//! The prompt cache on disk: what comes back after a kill, after a stop, and from files that were damaged meanwhile.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/objects.rs"]
mod objects;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Launch, Running, post, terminate};
use serde_json::{Value, json};

fn start(folder: &Path, cache: &Path) -> Running {
    Launch::tiny(folder, &["--cache-path", cache.to_str().unwrap(), "-np", "1", "-c", "512"]).healthy()
}

fn ask(running: &Running, end: &str) -> Value {
    let prompt = "Once upon a time there was a little dragon. ".repeat(6) + end;
    post(&running.url, "/completion", &json!({"prompt": prompt, "n_predict": 8, "temperature": 0}))
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let inside =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let folders = inside(cache.to_owned()).filter(|path| path.is_dir());
    folders.flat_map(inside).filter(|path| path.extension().is_some_and(|end| end == "kv")).collect()
}

/// Two requests with the same beginning, which goes to disk then.
fn prove(running: &Running, cache: &Path) -> Value {
    ask(running, "The end.");
    let second = ask(running, "It sang.");
    let begin = Instant::now();
    while files(cache).len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing is stored");
        std::thread::sleep(Duration::from_millis(20));
    }
    second
}

#[test]
fn what_was_asked_for_twice_is_there_after_a_kill() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut running = start(folder.path(), cache.path());
    let before = prove(&running, cache.path());
    running.child.kill().unwrap();
    let running = start(folder.path(), cache.path());
    let after = ask(&running, "It sang.");
    assert_eq!(after["content"], before["content"]);
    let disk = after["placement"]["tiers"]["disk"].as_u64().unwrap();
    assert!(disk >= 96 && after["timings"]["cache_n"] == disk, "{after}");
}

#[test]
fn a_stop_stores_what_was_asked_for_once() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut running = start(folder.path(), cache.path());
    let before = ask(&running, "The end.");
    assert_eq!(terminate(&mut running), Some(0));
    let after = ask(&start(folder.path(), cache.path()), "The end.");
    assert_eq!(after["content"], before["content"]);
    assert!(after["timings"]["cache_n"].as_u64().unwrap() >= 96, "{after}");
}

#[test]
fn servers_share_what_lies_below_a_url() {
    let (folder, place) = (tempfile::tempdir().unwrap(), objects::Objects::start());
    let start =
        || Launch::tiny(folder.path(), &["--cache-path", &place.url, "-np", "1", "-c", "512"]).healthy();
    let mut first = start();
    let before = ask(&first, "The end.");
    assert_eq!(terminate(&mut first), Some(0));
    assert!(place.held.lock().unwrap().len() >= 3);
    let after = ask(&start(), "The end.");
    assert_eq!(after["content"], before["content"]);
    assert!(after["placement"]["tiers"]["disk"].as_u64().unwrap() >= 96, "{after}");
}

#[test]
fn damaged_files_are_computed_anew() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut running = start(folder.path(), cache.path());
    let before = prove(&running, cache.path());
    running.child.kill().unwrap();
    for file in files(cache.path()) {
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x10;
        fs::write(file, bytes).unwrap();
    }
    let running = start(folder.path(), cache.path());
    let after = ask(&running, "It sang.");
    assert_eq!((&after["content"], &after["timings"]["cache_n"]), (&before["content"], &json!(0)));
}
