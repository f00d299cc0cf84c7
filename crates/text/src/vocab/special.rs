//! Special tokens that files do not name: found by their text, as llama-server finds them.
//!
//! Converters rarely write the ids of the end-of-turn and fill-in-the-middle tokens, and what ends a generation is
//! nowhere in the format. The lists below are facts about published vocabularies. Where several texts of one list are
//! in the vocabulary, the first of the list is taken; the reference takes any (it iterates over a hash map), which
//! makes no difference to what ends a generation, since all of them do.

use reprise_gguf::TokenId;

use super::{TokenKind, Vocab};

const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &[&str] = &["<|eom_id|>"];
const FIM_PREFIX: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUFFIX: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MIDDLE: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPO: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEPARATOR: &[&str] = &["<|file_sep|>"];

/// Texts that end a generation wherever they are in a vocabulary.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Markers of the Harmony format, part of the text that the reader of an answer must see.
const ALWAYS_RENDERED: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl Vocab {
    /// Completes the special tokens by text and decides which tokens end a generation.
    pub(super) fn detect_special_tokens(&mut self) {
        self.eot = self.eot.or_else(|| self.control(EOT));
        self.eom = self.eom.or_else(|| self.control(EOM));
        self.fim.prefix = self.fim.prefix.or_else(|| self.control(FIM_PREFIX));
        self.fim.suffix = self.fim.suffix.or_else(|| self.control(FIM_SUFFIX));
        self.fim.middle = self.fim.middle.or_else(|| self.control(FIM_MIDDLE));
        self.fim.pad = self.fim.pad.or_else(|| self.control(FIM_PAD));
        self.fim.repo = self.fim.repo.or_else(|| self.control(FIM_REPO));
        self.fim.separator = self.fim.separator.or_else(|| self.control(FIM_SEPARATOR));

        for text in END_OF_GENERATION {
            let found = self.control(&[text]);
            self.end_of_generation.extend(found);
        }
        for text in ALWAYS_RENDERED {
            self.retype(text, TokenKind::UserDefined);
        }
        self.end_of_generation
            .extend([self.fim.pad, self.fim.repo, self.fim.separator].into_iter().flatten());
        self.end_of_generation.extend([self.eos, self.eot, self.eom].into_iter().flatten());
        self.except_harmony_end();
        self.except_plain_s();
    }

    /// The first of these texts that is a token. It is a control token from now on, whatever the file says: a file
    /// that calls it something else is wrong about it.
    fn control(&mut self, texts: &[&str]) -> Option<TokenId> {
        let text = texts.iter().find(|text| self.find(text).is_some())?;
        self.retype(text, TokenKind::Control)
    }

    fn retype(&mut self, text: &str, kind: TokenKind) -> Option<TokenId> {
        let id = self.find(text)?;
        let token = &mut self.tokens[id.index()];
        if token.kind != kind {
            tracing::debug!(%id, text, was = ?token.kind, now = ?kind, "type of a special token overridden");
            token.kind = kind;
        }
        Some(id)
    }

    /// In vocabularies of the Harmony and Solar families `<|end|>` ends a message, not the generation.
    fn except_harmony_end(&mut self) {
        let ends = |text: &str| self.find(text).is_some_and(|id| self.is_eog(id));
        let calls = ends("<|call|>") || ends("<|calls|>");
        if ends("<|end|>") && calls && (ends("<|return|>") || ends("<|flush|>")) {
            self.continue_at("<|end|>", TokenKind::UserDefined);
        }
    }

    /// Vocabularies with these tokens have a `</s>` that is a word like any other (it is HTML).
    fn except_plain_s(&mut self) {
        let ends = |text: &str| self.find(text).is_some_and(|id| self.is_eog(id));
        if ends("</s>") && (ends("<|tool_response>") || ends("<|plamo:eos|>")) {
            self.continue_at("</s>", TokenKind::Normal);
        }
    }

    fn continue_at(&mut self, text: &str, kind: TokenKind) {
        if let Some(id) = self.retype(text, kind) {
            self.end_of_generation.remove(&id);
        }
    }
}
