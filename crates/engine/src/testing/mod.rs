//! A model without arithmetic and a clock moved by hand: the scheduler is tested on them, and so are the crates above.
//!
//! Built only with the feature `testing`, which is for `[dev-dependencies]`.

mod clock;
mod model;
mod vocabulary;

pub use clock::ManualClock;
pub use model::{Controls, PassEntry, ScriptedModel, hashed_letter};
pub use vocabulary::{BOS, EOS, VOCAB, byte, letter, letters, text};
