//! Special tokens and the rules of files that say little.

use reprise_gguf::{Metadata, TokenId, Value};

use super::{Fim, TokenKind, Vocab, VocabKind};

/// An SPM vocabulary of these texts, all of type normal, with further `tokenizer.ggml.` keys.
fn vocab(texts: &[&str], keys: &[(&str, Value)]) -> Vocab {
    let texts = texts.iter().map(|&text| Value::String(text.to_owned())).collect();
    let pairs = [("model", Value::String("llama".to_owned())), ("tokens", Value::Array(texts))];
    let pairs = pairs.iter().chain(keys).map(|(key, value)| (format!("tokenizer.ggml.{key}"), value.clone()));
    Vocab::from_metadata(&Metadata::new(pairs)).expect("a vocabulary")
}

fn end_of_generation(vocab: &Vocab) -> Vec<&str> {
    vocab.end_of_generation().map(|id| vocab.text(id)).collect()
}

#[test]
fn defaults_of_the_scored_family() {
    let vocab = vocab(&["<unk>", "<s>", "</s>", "<0x0A>", "x"], &[]);
    assert_eq!(vocab.kind, VocabKind::Spm);
    assert_eq!((vocab.kind.number(), VocabKind::Bpe.number()), (1, 2));
    assert_eq!((vocab.unk, vocab.bos, vocab.eos), (Some(TokenId(0)), Some(TokenId(1)), Some(TokenId(2))));
    assert_eq!(vocab.nl, Some(TokenId(3)));
    assert!(vocab.add_bos && !vocab.add_eos && vocab.add_space_prefix && !vocab.clean_spaces);
    assert_eq!(end_of_generation(&vocab), ["</s>"]);
    assert_eq!(vocab.fim, Fim::default());
}

#[test]
fn the_file_overrides_the_defaults() {
    let keys = [
        ("eos_token_id", Value::U32(4)),
        ("eot_token_id", Value::U32(3)),
        ("add_bos_token", Value::Bool(false)),
        ("add_eos_token", Value::Bool(true)),
        ("add_space_prefix", Value::Bool(false)),
        ("suppress_tokens", Value::Array(vec![Value::I32(3), Value::I32(99)])),
    ];
    let vocab = vocab(&["<unk>", "<s>", "a", "b", "c"], &keys);
    assert_eq!((vocab.eos, vocab.eot), (Some(TokenId(4)), Some(TokenId(3))));
    assert!(!vocab.add_bos && vocab.add_eos && !vocab.add_space_prefix);
    assert_eq!(end_of_generation(&vocab), ["b", "c"]);
    assert_eq!(vocab.suppressed, [TokenId(3)]);
}

#[test]
fn special_tokens_are_found_by_text_and_become_control_tokens() {
    let texts =
        ["a", "b", "c", "<|im_end|>", "<|endoftext|>", "<|fim_prefix|>", "<|fim_pad|>", "<|repo_name|>"];
    let vocab = vocab(&texts, &[]);
    assert_eq!(vocab.eot, vocab.find("<|im_end|>"));
    assert_eq!(vocab.fim.prefix, vocab.find("<|fim_prefix|>"));
    assert_eq!(vocab.fim.repo, vocab.find("<|repo_name|>"));
    assert_eq!(vocab.fim.suffix, None);
    assert!(texts[3..].iter().all(|text| vocab.find(text).is_some_and(|id| vocab.is_control(id))));
    assert_eq!(
        end_of_generation(&vocab),
        ["c", "<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>"]
    );
}

#[test]
fn fill_in_the_middle_ids_of_older_files_count() {
    let keys = [("prefix_token_id", Value::U32(1)), ("fim_mid_token_id", Value::U32(2))];
    let vocab = vocab(&["a", "b", "c", "<SUF>"], &keys);
    let fim = (vocab.fim.prefix, vocab.fim.middle, vocab.fim.suffix);
    assert_eq!(fim, (Some(TokenId(1)), Some(TokenId(2)), Some(TokenId(3))));
}

#[test]
fn an_end_that_only_ends_a_message_goes_on() {
    let texts = ["a", "b", "<|return|>", "<|call|>", "<|end|>", "<|channel|>"];
    let vocab = vocab(&texts, &[]);
    assert_eq!(end_of_generation(&vocab), ["<|return|>", "<|call|>"]);
    for text in ["<|end|>", "<|channel|>"] {
        let id = vocab.find(text).expect("it is a token");
        assert_eq!(vocab.token_kind(id), TokenKind::UserDefined, "{text}");
    }
}

#[test]
fn a_strike_through_tag_is_a_word_in_some_vocabularies() {
    let vocab = vocab(&["a", "b", "c", "<|tool_response>", "</s>"], &[]);
    assert_eq!(end_of_generation(&vocab), ["c", "<|tool_response>"]);
    assert_eq!(vocab.token_kind(TokenId(4)), TokenKind::Normal);
}

#[test]
fn empty_texts_get_names() {
    let vocab = vocab(&["a", "", "b"], &[]);
    assert_eq!(vocab.text(TokenId(1)), "[EMPTY_1]");
    assert_eq!(vocab.text(TokenId(3)), "");
    assert!(!vocab.contains(TokenId(3)) && vocab.len() == 3 && !vocab.is_empty());
}
