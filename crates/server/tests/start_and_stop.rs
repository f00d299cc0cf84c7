//! Starting with what cannot work, and stopping in order.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::{Launch, post, terminate};

#[test]
fn a_model_that_cannot_be_loaded_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut bad = tempfile::NamedTempFile::new().unwrap();
    bad.write_all(b"this is not a model, and long enough to look").unwrap();
    let path = bad.path().to_str().unwrap();
    let error = Launch::new(&["-m", path]).fails();
    assert!(error.contains(path) && error.to_lowercase().contains("gguf"), "{error}");
    let error = Launch::new(&["-m", "/nonexistent/model.gguf"]).fails();
    assert!(error.contains("/nonexistent/model.gguf"), "{error}");
    let error = Launch::new(&["-m", folder.path().to_str().unwrap()]).fails();
    assert!(error.contains("not a file"), "{error}");
    assert!(Launch::new(&[]).fails().contains("no model given"));
}

#[test]
fn flags_that_cannot_work_exit_with_status_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Launch::new(&["--mmproj", "x"]).fails().contains("--mmproj"));
    let error = Launch::tiny(folder.path(), &["--slot-save-path", "/nonexistent"]).fails();
    assert!(error.contains("not a directory: /nonexistent"), "{error}");
    let key = folder.path().join("key");
    let key = key.to_str().unwrap();
    let error = Launch::tiny(folder.path(), &["--state-key", key]).fails();
    assert!(error.contains("--state-key") && error.contains(key), "{error}");
    std::fs::write(key, "too short").unwrap();
    let error = Launch::tiny(folder.path(), &["--state-key", key]).fails();
    assert!(error.contains("too short") && error.contains("at least 16 bytes, not 9"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = Launch::tiny(folder.path(), &["--cache-path", file.to_str().unwrap()]).fails();
    assert!(error.contains("--cache-path") && error.contains("no folder"), "{error}");
    let error = Launch::tiny(folder.path(), &["-np", "0"]).fails();
    assert!(error.contains("-np"), "{error}");
    let error = Launch::tiny(folder.path(), &["-np", "4", "-c", "4294967295"]).fails();
    assert!(error.contains("too large"), "{error}");
}

#[test]
fn a_port_in_use_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = Launch::tiny(folder.path(), &["--port", &port]).fails();
    assert!(error.contains(&port) && error.contains("--port"), "{error}");
}

#[test]
fn a_running_request_is_finished_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Launch::tiny(folder.path(), &[]).healthy();
    let url = running.url.clone();
    let request = std::thread::spawn(move || {
        post(
            &url,
            "/completion",
            &json!({"prompt": "a", "n_predict": 400, "temperature": 0, "ignore_eos": true}),
        )
    });
    let start = Instant::now();
    let busy = |url: &str| {
        let slots: Value = ureq::get(format!("{url}/slots")).call().unwrap().body_mut().read_json().unwrap();
        slots.as_array().unwrap().iter().any(|slot| slot["is_processing"] == true)
    };
    while !busy(&running.url) && !request.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(20), "the request never ran");
    }
    assert_eq!(terminate(&mut running), Some(0));
    assert_eq!(request.join().unwrap()["tokens_predicted"], 400);
}

#[test]
fn a_saved_slot_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let slots = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789abcdef").unwrap();
    let (path, key) = (slots.path().to_str().unwrap(), key.to_str().unwrap());
    let flags = ["--slot-save-path", path, "-np", "1", "--state-key", key];
    let prompt =
        json!({"prompt": "Once upon a time there was a little dragon", "n_predict": 8, "temperature": 0});
    let mut running = Launch::tiny(folder.path(), &flags).healthy();
    let first = post(&running.url, "/completion", &prompt);
    let saved = post(&running.url, "/slots/0?action=save", &json!({"filename": "a.bin"}));
    running.child.kill().unwrap();
    let running = Launch::tiny(folder.path(), &flags).healthy();
    let restored = post(&running.url, "/slots/0?action=restore", &json!({"filename": "a.bin"}));
    assert_eq!(restored["n_restored"], saved["n_saved"]);
    let second = post(&running.url, "/completion", &prompt);
    assert_eq!(second["content"], first["content"]);
    assert_eq!(second["timings"]["prompt_n"], 1);
}
