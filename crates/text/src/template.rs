//! Stage 3: chat messages to the text of a prompt, by the model's own Jinja template.

mod caps;
mod environment;
mod messages;
mod now;
mod probe;
mod python;
mod reasoning;

use minijinja::Environment;
use reprise_gguf::Metadata;
use serde_json::{Map, Value};

use self::caps::Caps;
use self::messages::Message;
pub use self::now::LocalTime;
pub use self::reasoning::Reasoning;
use crate::tokenizer::piece;
use crate::{TextError, Vocab};

/// What models without a template get.
const CHATML: &str = "\
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}";

/// Whether the prompt ends inside the last message, so that the model goes on with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Continuation {
    /// No: all messages are complete.
    #[default]
    None,
    /// Yes: with its reasoning if the message has nothing else, else with its content.
    Auto,
    /// Yes, with its content.
    Content,
    /// Yes, with its reasoning.
    Reasoning,
}

/// What a prompt is made from.
#[derive(Debug, Clone, Copy)]
pub struct TemplateInput<'a> {
    /// The conversation: an array of `{role, content, ..}` objects as in OpenAI's API.
    pub messages: &'a Value,
    /// Tools the model may call, an array as in OpenAI's API.
    pub tools: Option<&'a Value>,
    /// Whether the prompt ends where an answer begins. Has no effect on a continued message.
    pub add_generation_prompt: bool,
    /// Whether the model goes on with the last message.
    pub continuation: Continuation,
    /// Further variables of the template (`chat_template_kwargs`); they win over the ones made here.
    pub extra: &'a Map<String, Value>,
    /// The date and time that the template may see.
    pub now: LocalTime,
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    caps: Caps,
    reasoning: Option<Reasoning>,
    /// The default of the `enable_thinking` variable: whether the template knows thinking at all.
    thinks: bool,
    bos: String,
    eos: String,
    /// The tokenizer adds BOS, EOS: the prompt must not bring its own.
    strips: Strips,
}

#[derive(Debug, Clone, Copy)]
struct Strips {
    bos: bool,
    eos: bool,
}

impl ChatTemplate {
    /// Compiles a template. BOS and EOS are those of the vocabulary.
    ///
    /// # Errors
    /// [`TextError::Template`] when it is not valid Jinja.
    pub fn new(source: impl Into<String>, vocab: &Vocab) -> Result<Self, TextError> {
        let source = source.into();
        let environment = environment::with_template(&source)?;
        let caps = Caps::of(&source)?;
        let text = |token: Option<_>| token.map_or(String::new(), |id| piece::text(vocab, id));
        let mut template = Self {
            environment,
            source,
            caps,
            reasoning: None,
            thinks: false,
            bos: text(vocab.bos),
            eos: text(vocab.eos),
            strips: Strips { bos: vocab.add_bos, eos: vocab.add_eos },
        };
        template.reasoning = Reasoning::of(&template);
        template.thinks = template.reasoning.is_some() || reasoning::has_switch(&template);
        Ok(template)
    }

    /// The template of a GGUF file; ChatML where the file has none.
    ///
    /// # Errors
    /// [`TextError::Template`] when it is not valid Jinja.
    pub fn from_metadata(metadata: &Metadata, vocab: &Vocab) -> Result<Self, TextError> {
        let stated = metadata.opt_string("tokenizer.chat_template")?;
        match stated {
            None | Some("" | "chatml") => Self::new(CHATML, vocab),
            Some(source) => Self::new(source, vocab),
        }
    }

    /// The template's text, as `/props` shows it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the template can express: the `chat_template_caps` object of `/props`.
    #[must_use]
    pub fn caps(&self) -> Value {
        self.caps.to_json()
    }

    /// The markers around a model's reasoning, where the template has any.
    #[must_use]
    pub fn reasoning(&self) -> Option<&Reasoning> {
        self.reasoning.as_ref()
    }

    /// The prompt's text. It never starts with a BOS that the tokenizer will add.
    ///
    /// # Errors
    /// [`TextError::Messages`] or [`TextError::Tools`] when messages or tools are not what they should be,
    /// [`TextError::Template`] when the template refuses them.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TextError> {
        let mut messages = messages::parse(input.messages)?;
        let continued = match input.continuation {
            Continuation::None => None,
            _ => messages.pop(),
        };
        let messages = messages::prepare(&messages, &self.caps, &self.source)?;
        let tools = input.tools.map(messages::parse_tools).transpose()?;
        let prompt = |generation: bool| {
            let variables = self.variables(input, &messages, tools.as_ref(), generation);
            self.fill(&variables)
        };
        match continued {
            None => prompt(input.add_generation_prompt && input.continuation == Continuation::None),
            Some(message) => {
                let complete = prompt(false)?;
                if message.is_empty() {
                    return Ok(complete);
                }
                let with_opening = prompt(true)?;
                let opening = opening(&complete, &with_opening);
                let opened = self.open_message(opening, &message, input.continuation);
                Ok(complete + &opened)
            }
        }
    }

    /// The variables of the template.
    fn variables(
        &self,
        input: &TemplateInput<'_>,
        messages: &Value,
        tools: Option<&Value>,
        generation: bool,
    ) -> Map<String, Value> {
        let mut variables = Map::new();
        let mut set = |name: &str, value: Value| variables.insert(name.to_owned(), value);
        // The reference asks for the reasoning of past answers unless told otherwise.
        let keep = input.extra.get("preserve_reasoning").and_then(Value::as_bool).unwrap_or(true);
        set("preserve_reasoning", keep.into());
        caps::preserve_reasoning(keep, &mut set);
        if let Some(effort) = input.extra.get("reasoning_effort").and_then(Value::as_str) {
            set("reasoning_strength", effort.into());
        }
        set("messages", messages.clone());
        set("bos_token", self.bos.as_str().into());
        set("eos_token", self.eos.as_str().into());
        set("enable_thinking", self.thinks.into());
        if let Some(tools) = tools.filter(|tools| tools.as_array().is_some_and(|tools| !tools.is_empty())) {
            set("tools", tools.clone());
        }
        set("datetime", input.now.format("%b %d %Y").unwrap_or_default().into());
        set("date_string", input.now.format("%d %b %Y").unwrap_or_default().into());
        set(environment::NOW, input.now.0.into());
        for (name, value) in input.extra {
            set(name, value.clone());
        }
        if generation {
            set("add_generation_prompt", true.into());
        }
        variables
    }

    /// Renders the template and takes off the BOS and EOS that the tokenizer adds.
    fn fill(&self, variables: &Map<String, Value>) -> Result<String, TextError> {
        let text = environment::render(&self.environment, variables)?;
        let text =
            if self.strips.bos { text.strip_prefix(self.bos.as_str()).unwrap_or(&text) } else { &text };
        let text = if self.strips.eos { text.strip_suffix(self.eos.as_str()).unwrap_or(text) } else { text };
        Ok(text.to_owned())
    }

    /// The start of a message that the model goes on with, after what opens any answer.
    fn open_message(&self, opening: &str, message: &Message, continuation: Continuation) -> String {
        let content = continuation == Continuation::Content
            || continuation == Continuation::Auto && !message.is_reasoning_only();
        let mut text = opening.to_owned();
        if let Some(Reasoning { start, end }) =
            self.reasoning.as_ref().filter(|markers| !markers.start.is_empty())
        {
            text.truncate(text.find(start.as_str()).unwrap_or(text.len()));
            text += start;
            text += message.reasoning();
            if content {
                text += end;
            }
        }
        if content {
            text += &message.text();
        }
        text
    }
}

/// What the template adds to a conversation so that an answer follows.
fn opening<'a>(complete: &str, with_generation_prompt: &'a str) -> &'a str {
    let common = complete.bytes().zip(with_generation_prompt.bytes()).take_while(|(a, b)| a == b).count();
    // Two texts can part in the middle of a character.
    let start = (0..=common).rev().find(|&at| with_generation_prompt.is_char_boundary(at)).unwrap_or(0);
    &with_generation_prompt[start..]
}

#[cfg(test)]
mod tests;
