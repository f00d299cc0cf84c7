//! `/completion`.

use serde_json::{Value, json};

use crate::harness::{Server, api_config, ids, model, saying};

#[test]
fn answers_with_every_field_of_the_reference() {
    let mut server = Server::with(saying(4, "hello"), api_config());
    let answer = server.ask("/completion", &json!({"prompt": ids("abc"), "temperature": 0}));
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "index",
            "content",
            "tokens",
            "id_slot",
            "stop",
            "model",
            "tokens_predicted",
            "tokens_evaluated",
            "generation_settings",
            "prompt",
            "has_new_line",
            "truncated",
            "stop_type",
            "stopping_word",
            "tokens_cached",
            "timings",
            "placement",
            "seed",
        ]
    );
    assert_eq!(answer["content"], "hello");
    assert_eq!(answer["stop_type"], "eos");
    assert_eq!(answer["model"], "scripted.gguf");
    assert_eq!(answer["prompt"], "<s>abc");
    assert_eq!(answer["tokens"], json!([]));
    assert_eq!((&answer["tokens_evaluated"], &answer["tokens_predicted"]), (&json!(4), &json!(6)));
    // All but the last sampled token is in the slot.
    assert_eq!(answer["tokens_cached"], 9);
    assert_eq!(answer["placement"]["slot"], answer["id_slot"]);
    let settings = &answer["generation_settings"];
    assert_eq!(settings["top_p"], json!(0.949999988079071));
    assert_eq!(settings["seed"], json!(u32::MAX));
    assert_eq!((&settings["n_predict"], &settings["max_tokens"]), (&json!(-1), &json!(-1)));
    assert_eq!(settings["samplers"][0], "penalties");
    assert_eq!(settings["speculative.types"], "none");
    assert_eq!(settings["dry_sequence_breakers"], json!(["\n", ":", "\"", "*"]));
}

#[test]
fn drafts_are_counted_in_timings_metrics_and_slots() {
    let mut server = Server::speculating(saying(4, "abcabcabc"));
    let answer = server.ask("/completion", &json!({"prompt": ids("abc"), "temperature": 0}));
    assert_eq!(answer["content"], "abcabcabc");
    assert_eq!(answer["generation_settings"]["speculative.types"], "none,ngram-simple");
    // Behind the first token four are drafted and come true; of the next four the last is not what comes.
    let timings = &answer["timings"];
    assert_eq!((&timings["draft_n"], &timings["draft_n_accepted"]), (&json!(8), &json!(7)));
    let slot = server.get("/slots").json()[answer["id_slot"].as_u64().unwrap() as usize].take();
    assert_eq!(
        (&slot["speculative"], &slot["params"]["speculative.types"]),
        (&json!(true), &json!("none,ngram-simple"))
    );
    let props = server.get("/props").json();
    assert_eq!(props["default_generation_settings"]["params"]["speculative.types"], "none");
    let metrics = server.get("/metrics").text;
    for line in [
        "llamacpp:spec_decode_num_draft_tokens_total 8",
        "llamacpp:spec_decode_num_accepted_tokens_total 7",
        "llamacpp:spec_decode_num_drafts_total 2",
        "llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"3\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    let body = json!({"prompt": ids("abc"), "temperature": 0, "stream": true, "timings_per_token": true});
    let (events, _) = server.post("/completion", &body).events();
    let accepted: Vec<_> = events.iter().map(|event| event["timings"]["draft_n_accepted"].as_u64()).collect();
    assert_eq!(accepted[..4], [None, Some(1), Some(2), Some(3)]);
    assert_eq!(events.len(), 11);
}

#[test]
fn a_repeated_prompt_comes_from_the_cache() {
    let mut server = Server::new();
    let body = json!({"prompt": "some words", "n_predict": 3, "temperature": 0, "ignore_eos": true});
    let first = server.ask("/completion", &body);
    let second = server.ask("/completion", &body);
    let tokens = first["tokens_evaluated"].as_u64().unwrap();
    assert_eq!(first["timings"]["cache_n"], 0);
    assert_eq!(first["timings"]["prompt_n"], tokens);
    assert_eq!(second["timings"]["cache_n"], tokens - 1);
    assert_eq!(second["timings"]["prompt_n"], 1);
    assert_eq!(first["content"], second["content"]);
    let reason = second["placement"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("similarity"), "{reason}");
}

#[test]
fn response_fields_cut_the_answer_down() {
    let mut server = Server::with(saying(2, "x"), api_config());
    let fields = ["content", "generation_settings/n_predict", "timings/cache_n", "nope"];
    let body = json!({"prompt": ids("a"), "n_predict": 1, "temperature": 0, "response_fields": fields});
    let answer = server.ask("/completion", &body);
    assert_eq!(answer, json!({"content": "x", "generation_settings/n_predict": 1, "timings/cache_n": 0}));
    // Anything that is no list of strings is as if it were not there.
    let body = json!({"prompt": ids("a"), "n_predict": 1, "response_fields": "content"});
    assert!(server.ask("/completion", &body).get("index").is_some());
}

#[test]
fn several_prompts_and_copies_answer_in_order() {
    let mut server = Server::new();
    let body = json!({
        "prompt": [ids("aaaa"), "bb", [1, 280, "cc"], {"prompt_string": "dd"}],
        "n_predict": 2, "temperature": 0, "n_cmpl": 2, "ignore_eos": true,
    });
    let answers = server.ask("/completion", &body);
    let answers = answers.as_array().unwrap();
    let indices: Vec<_> = answers.iter().map(|answer| answer["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6, 7]);
    for pair in answers.chunks(2) {
        assert_eq!(pair[0]["content"], pair[1]["content"]);
        assert_eq!(pair[0]["prompt"], pair[1]["prompt"]);
    }
    assert_eq!(answers[0]["prompt"], "<s>aaaa");
    // A list of one prompt is answered by one object.
    let one = server.ask("/completion", &json!({"prompt": ["x"], "n_predict": 1}));
    assert_eq!(one["index"], 0);
}

#[test]
fn probabilities_come_in_two_kinds() {
    let mut server = Server::with(saying(2, "xy"), api_config());
    let body = |post: bool| json!({"prompt": ids("a"), "n_predict": 2, "temperature": 0, "n_probs": 2, "post_sampling_probs": post});
    let answer = server.ask("/completion", &body(false));
    let first = &answer["completion_probabilities"][0];
    assert_eq!((&first["token"], &first["bytes"]), (&json!("x"), &json!([120])));
    assert!(first["logprob"].as_f64().unwrap() <= 0.0);
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(answer["completion_probabilities"].as_array().unwrap().len(), 2);
    let answer = server.ask("/completion", &body(true));
    let first = &answer["completion_probabilities"][0];
    assert_eq!(first["prob"], 1.0);
    assert!(first["top_probs"].is_array() && first.get("logprob").is_none());
}

#[test]
fn stop_strings_end_the_text_and_are_not_in_it() {
    let mut server = Server::with(saying(2, "one two three"), api_config());
    for stop in [json!("two"), json!(["zzz", "two"]), json!(["", null, "two"])] {
        let answer = server.ask("/completion", &json!({"prompt": ids("a"), "temperature": 0, "stop": stop}));
        assert_eq!(answer["content"], "one ");
        assert_eq!((&answer["stop_type"], &answer["stopping_word"]), (&json!("word"), &json!("two")));
    }
}

#[test]
fn tokens_are_returned_on_request() {
    let mut server = Server::with(saying(2, "ab"), api_config());
    let body = json!({"prompt": ids("a"), "temperature": 0, "return_tokens": true, "n_predict": 2});
    let answer = server.ask("/completion", &body);
    assert_eq!(answer["tokens"], json!([259, 260]));
    assert_eq!(answer["stop_type"], "limit");
}

#[test]
fn nothing_is_sampled_when_nothing_is_asked_for() {
    let mut server = Server::new();
    let answer = server.ask("/completion", &json!({"prompt": "warm", "n_predict": 0}));
    assert_eq!((&answer["content"], &answer["tokens_predicted"]), (&json!(""), &json!(0)));
    assert_eq!(answer["tokens_cached"], answer["tokens_evaluated"]);
    let again = server.ask("/completion", &json!({"prompt": "warm", "n_predict": 1}));
    assert_eq!(again["timings"]["prompt_n"], 1);
}

#[test]
fn empty_prompts_are_answered() {
    let mut server = Server::new();
    let answer = server.ask("/completion", &json!({"prompt": [[]], "n_predict": 1}));
    assert_eq!((&answer["stop_type"], &answer["content"]), (&json!("none"), &json!("")));
    // The vocabulary adds BOS to an empty text.
    let answer = server.ask("/completion", &json!({"prompt": "", "n_predict": 1}));
    assert_eq!(answer["tokens_evaluated"], 1);
}

#[test]
fn settings_show_what_was_asked_for() {
    let mut server = Server::new();
    let body = json!({
        "prompt": "a", "n_predict": 1, "seed": 7, "temperature": -1, "top_k": -5, "top_p": 2, "dry_base": 0.5,
        "samplers": ["Top-K", "nope", "temp"], "max_tokens": 9, "n_keep": -1, "mirostat": 9, "ignore_eos": true,
        "logit_bias": [[259, 1.5], ["b", -1], [6, false], [7, true], [99999, 1], "x"], "stop": ["q"],
    });
    let settings = server.ask("/completion", &body)["generation_settings"].take();
    let expected = json!({
        "seed": 7, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "dry_base": 1.75, "samplers": ["top_k", "temperature"],
        "n_predict": 1, "n_keep": -1, "mirostat": 2, "ignore_eos": true, "stop": ["q"],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&settings[name], value, "{name}");
    }
    let biases = settings["logit_bias"].as_array().unwrap();
    assert_eq!(biases[0], json!({"bias": 1.5, "token": 259}));
    assert_eq!(biases.last(), Some(&json!({"bias": null, "token": 2})), "{biases:?}");
    assert!(biases.contains(&json!({"bias": null, "token": 6})));
    let as_object = json!({"prompt": "a", "n_predict": 1, "logit_bias": {"259": 1, "6": false, "-1": 3}});
    let settings = server.ask("/completion", &as_object)["generation_settings"].take();
    assert_eq!(settings["logit_bias"], json!([{"bias": 1.0, "token": 259}, {"bias": null, "token": 6}]));
    let letters = json!({"prompt": "a", "n_predict": 1, "samplers": "kqt", "seed": -1});
    let settings = server.ask("/completion", &letters)["generation_settings"].take();
    assert_eq!(settings["samplers"], json!(["top_k", "temperature"]));
}

#[test]
fn a_banned_token_is_not_sampled() {
    let mut server = Server::with(model().with_next(|_| reprise_engine::testing::letter(0)), api_config());
    let answer = |server: &mut Server, bias: Value| {
        let body = json!({"prompt": ids("q"), "n_predict": 2, "temperature": 0, "logit_bias": bias});
        server.ask("/completion", &body)["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(answer(&mut server, json!([])), "aa");
    assert_ne!(answer(&mut server, json!({"259": false})), "aa");
    assert_eq!(answer(&mut server, json!([[260, 50]])), "bb");
}

#[test]
fn null_is_absent_and_unknown_fields_are_ignored() {
    let mut server = Server::new();
    let body = json!({
        "prompt": "a", "n_predict": null, "max_tokens": 1, "stream": null, "stop": null, "logit_bias": null,
        "samplers": null, "grammar": null, "seed": null, "stream_options": null, "id_slot": null, "what": {"ever": 1},
    });
    assert_eq!(server.ask("/completion", &body)["tokens_predicted"], 1);
}

#[test]
fn a_pinned_request_runs_in_its_slot() {
    let mut server = Server::new();
    for (id, slot) in [(json!(0), 0), (json!(1), 1), (json!(7), 1), (json!(0), 0)] {
        let answer = server.ask("/completion", &json!({"prompt": "a", "n_predict": 1, "id_slot": id}));
        assert_eq!(answer["id_slot"], slot, "{id}");
    }
    for any in [json!(-1), json!("x"), json!([])] {
        server.ask("/completion", &json!({"prompt": "a", "n_predict": 1, "id_slot": any}));
    }
}
