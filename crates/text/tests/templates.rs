//! Agreement with llama-server on made-up chat templates: prompts, refusals and abilities.

mod support;

use reprise_gguf::Value as Gg;
use reprise_text::ChatTemplate;
use support::Recording;

#[test]
fn prompts_and_abilities_are_the_references() {
    let recording = Recording::of("templates");
    // The reference ran a model with an SPM vocabulary: BOS is `<s>` and added, EOS is `</s>`.
    let text = support::text([
        ("tokenizer.ggml.model", Gg::String("llama".to_owned())),
        (
            "tokenizer.ggml.tokens",
            Gg::Array(["<unk>", "<s>", "</s>"].map(|text| Gg::String(text.to_owned())).to_vec()),
        ),
    ]);
    for row in recording.rows("templates") {
        let name = row["name"].as_str().expect("a name");
        let source = row["source"].as_str().expect("a template");
        let template = ChatTemplate::new(source, text.tokenizer.vocab()).expect(name);
        let answers = row["answers"].as_array().expect("answers");
        for (request, answer) in recording.rows("requests").iter().zip(answers) {
            support::check_chat(name, &template, request, answer);
        }
        assert_eq!(template.caps(), row["caps"], "{name}");
    }
}
