//! Speculative decoding on a real model: the text stays, passes are saved, and the wire says how many.

#![allow(clippy::unwrap_used)] // a failed step fails the test

mod common;

use std::path::PathBuf;

use serde_json::{Value, json};

use common::{Launch, Running};

const COPIED: &str = "The lighthouse on the northern cape was built of grey stone in 1874. Its keeper climbed two \
hundred and eleven steps each evening, trimmed the wick, wound the clockwork and wrote the weather into a book.";

/// In the folder of the real models.
fn model() -> String {
    let folder =
        std::env::var_os("REPRISE_MODELS").expect("REPRISE_MODELS names the folder of the real models");
    PathBuf::from(folder).join("SmolLM2-135M-Instruct.Q4_1.gguf").to_str().unwrap().to_owned()
}

fn get(running: &Running, path: &str) -> String {
    ureq::get(format!("{}{path}", running.url)).call().unwrap().body_mut().read_to_string().unwrap()
}

fn complete(running: &Running, change: &Value) -> Value {
    let mut body = json!({
        "prompt": format!("<|im_start|>user\nRepeat this text: {COPIED}<|im_end|>\n<|im_start|>assistant\n{}", &COPIED[..40]),
        "n_predict": 64, "temperature": 0,
    });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let url = format!("{}/completion", running.url);
    ureq::post(url).send_json(&body).unwrap().body_mut().read_json().unwrap()
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("llamacpp:{name} "))).unwrap();
    line.parse().unwrap()
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn copied_text_comes_in_fewer_passes_and_is_the_same() {
    let model = model();
    let flags = ["-m", &model, "-np", "1", "-c", "1024", "--metrics"];
    let plain = Launch::new(&flags).healthy();
    let spec = ["--spec-type", "ngram-simple", "--spec-ngram-simple-size-n", "4"];
    let drafting = Launch::new(&[&flags[..], &spec].concat()).healthy();
    let mut accepted = 0;
    let requests = [
        json!({}),
        json!({"n_probs": 2, "post_sampling_probs": true}),
        json!({"temperature": 0.9, "seed": 5}),
        json!({"temperature": 0.7, "seed": 6, "repeat_penalty": 1.1, "grammar": "root ::= [A-Za-z ,.0-9]+"}),
        json!({"stop": ["clockwork"]}),
    ];
    for change in &requests {
        let (before, after) = (complete(&plain, change), complete(&drafting, change));
        for field in ["content", "tokens_predicted", "tokens_cached", "stop_type", "completion_probabilities"]
        {
            assert_eq!(after[field], before[field], "{field} of {change}");
        }
        assert!(before["timings"].get("draft_n").is_none());
        accepted += after["timings"]["draft_n_accepted"].as_u64().unwrap_or_default();
    }
    assert!(accepted > 40, "{accepted} tokens accepted");
    let metrics = get(&drafting, "/metrics");
    assert_eq!(metric(&metrics, "spec_decode_num_accepted_tokens_total"), accepted as f64);
    let passes = |running| metric(&get(running, "/metrics"), "n_decode_total");
    // Each accepted token saves a pass, but for one that ends its request.
    let saved = passes(&plain) - passes(&drafting);
    assert!(
        saved + requests.len() as f64 >= accepted as f64,
        "{saved} passes saved, {accepted} tokens accepted"
    );

    let slots: Value = serde_json::from_str(&get(&drafting, "/slots")).unwrap();
    assert_eq!(slots[0]["speculative"], true);
    assert_eq!(slots[0]["params"]["speculative.types"], "none,ngram-simple");
}
