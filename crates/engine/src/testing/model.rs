//! A model whose next token is a function of the tokens that its KV cells hold.

use std::cell::{Cell as StdCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use reprise_gguf::TokenId;
use reprise_model::{
    BLOCK_TOKENS, Cell, CellRun, CellShift, Forward, KvShape, ModelError, ModelInfo, Output, Sequence,
    StepOutput,
};

use crate::testing::{EOS, ManualClock, VOCAB, letter};

/// Layers, heads and head size of the pretended KV: a cell is 16 bytes, four of token, four of position, twice.
const SHAPE: KvShape = KvShape::f16(1, 1, 4);
/// Width of a hidden state: the token and its position.
const WIDTH: usize = 2;

/// Lead of the next token's logit over all others: greedy sampling takes it, random sampling often does not.
const LEAD: f32 = 2.0;

/// Stands in for a model. It stores tokens where a model stores K and V, and reads its prefix back through the block
/// table, as attention does. A cell that was not copied, was copied to the wrong place, is shared and overwritten, or
/// was moved without being rotated gives an error or another answer.
pub struct ScriptedModel {
    info: ModelInfo,
    blocks: Vec<[Option<Stored>; BLOCK_TOKENS]>,
    pass_limit: u32,
    next: Box<Next>,
    controls: Controls,
}

/// What follows a prefix.
type Next = dyn Fn(&[TokenId]) -> TokenId;

/// What a KV cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    token: TokenId,
    /// The position that K is rotated to.
    position: i64,
}

/// A test's view of a [`ScriptedModel`] that an engine has swallowed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    passes: Rc<RefCell<Vec<Vec<PassEntry>>>>,
    failures: Rc<StdCell<u32>>,
    lost: Rc<StdCell<bool>>,
    cost: Rc<StdCell<Option<(Duration, Duration)>>>,
    clock: ManualClock,
}

/// One sequence of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassEntry {
    /// Position of its first token.
    pub start: u32,
    /// Tokens.
    pub count: u32,
    /// What was asked for.
    pub output: Output,
}

impl Controls {
    /// The clock that passes move.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// All passes so far, those that failed too.
    #[must_use]
    pub fn passes(&self) -> Vec<Vec<PassEntry>> {
        self.passes.borrow().clone()
    }

    /// Lets the next passes fail, after they have spoilt the cells that they were to write.
    pub fn fail_next(&self, passes: u32) {
        self.failures.set(passes);
    }

    /// Takes the model's device away.
    pub fn lose_device(&self) {
        self.lost.set(true);
    }

    /// Lets every pass move the clock: by a time of its own, and one for each token.
    pub fn set_cost(&self, pass: Duration, token: Duration) {
        self.cost.set(Some((pass, token)));
    }
}

impl Controls {
    fn present(&self) -> Result<(), ModelError> {
        if self.lost.get() { Err(ModelError::DeviceLost("it was taken away".into())) } else { Ok(()) }
    }
}

impl fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedModel").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

/// A letter that depends on every token of a prefix and on their order; now and then the end of the generation.
#[must_use]
pub fn hashed_letter(prefix: &[TokenId]) -> TokenId {
    let hash = prefix.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, token| {
        (hash ^ u64::from(token.0)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 29)) as u32;
    if mixed % 61 == 7 { EOS } else { letter(mixed % 26) }
}

impl ScriptedModel {
    /// A model with empty KV memory that takes at most `pass_limit` tokens in a pass and answers with
    /// [`hashed_letter`].
    #[must_use]
    pub fn new(blocks: u32, pass_limit: u32) -> Self {
        Self {
            info: ModelInfo {
                architecture: "scripted".into(),
                name: "scripted".into(),
                file_type: "F16".into(),
                vocab: VOCAB,
                embedding: WIDTH,
                train_context: 1 << 20,
                parameters: 0,
                bytes: 0,
                kv: SHAPE,
                windowed: false,
                fingerprint: [7; 32],
                backend: "script".into(),
            },
            blocks: vec![[None; BLOCK_TOKENS]; blocks as usize],
            pass_limit,
            next: Box::new(hashed_letter),
            controls: Controls::default(),
        }
    }

    /// Says that some of its layers see a window only.
    #[must_use]
    pub fn windowed(mut self) -> Self {
        self.info.windowed = true;
        self
    }

    /// Lets `next` choose what follows a prefix.
    #[must_use]
    pub fn with_next(mut self, next: impl Fn(&[TokenId]) -> TokenId + 'static) -> Self {
        self.next = Box::new(next);
        self
    }

    /// Lets the answer to a prompt of `prompt` tokens be these tokens, and EOS from then on.
    #[must_use]
    pub fn saying(self, prompt: usize, answer: Vec<TokenId>) -> Self {
        self.with_next(move |prefix| answer.get(prefix.len() - prompt).copied().unwrap_or(EOS))
    }

    /// Another model, as far as slot images are concerned.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: [u8; 32]) -> Self {
        self.info.fingerprint = fingerprint;
        self
    }

    /// What a test keeps in hand.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    fn cell(&mut self, cell: Cell) -> Result<&mut Option<Stored>, ModelError> {
        self.blocks
            .get_mut(cell.block as usize)
            .and_then(|block| block.get_mut(cell.offset as usize))
            .ok_or_else(|| ModelError::Step(format!("cell {cell:?} is outside the KV memory")))
    }

    /// What attention would see at `position`.
    fn read(&mut self, blocks: &[u32], position: u32) -> Result<TokenId, ModelError> {
        let cell = cell_of(blocks, position)?;
        match *self.cell(cell)? {
            Some(stored) if stored.position == i64::from(position) => Ok(stored.token),
            found => Err(ModelError::Step(format!("position {position}, {cell:?}: {found:?}"))),
        }
    }

    fn step(&mut self, batch: &[Sequence<'_>], out: &mut StepOutput, fail: bool) -> Result<(), ModelError> {
        let tokens: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        if tokens == 0 || tokens > self.pass_limit as usize {
            return Err(ModelError::Step(format!("a pass of {tokens} tokens, limit {}", self.pass_limit)));
        }
        let mut written = Vec::new();
        for sequence in batch {
            for (position, token) in (sequence.start..).zip(sequence.tokens) {
                let cell = cell_of(sequence.blocks, position)?;
                if written.contains(&cell) {
                    return Err(ModelError::Step(format!("{cell:?} is written twice in a pass")));
                }
                written.push(cell);
                let stored = Stored { token: *token, position: i64::from(position) };
                *self.cell(cell)? = (!fail).then_some(stored);
            }
        }
        if fail {
            return Err(ModelError::Step("a scripted failure".into()));
        }
        for sequence in batch {
            let end = sequence.start + sequence.tokens.len() as u32;
            let prefix = (0..end)
                .map(|position| self.read(sequence.blocks, position))
                .collect::<Result<Vec<_>, _>>()?;
            if sequence.output == Output::Hidden {
                out.hidden.extend(
                    (sequence.start..end)
                        .flat_map(|position| [prefix[position as usize].0 as f32, position as f32]),
                );
            }
            let scored = sequence.output.score_rows(sequence.tokens.len());
            for known in prefix.len() + 1 - scored..=prefix.len() {
                let row = out.logits.len();
                out.logits.resize(row + VOCAB, 0.0);
                out.logits[row + (self.next)(&prefix[..known]).index()] = LEAD;
            }
        }
        give_best(batch, out);
        Ok(())
    }
}

/// Gives only the best logit of each row if nobody asks for more. The next best ones are equals, which come all or not
/// at all.
fn give_best(batch: &[Sequence<'_>], out: &mut StepOutput) {
    let more =
        |output: Output| output.wants_scores() && !matches!(output, Output::Top(1) | Output::EachTop(1));
    if batch.iter().any(|sequence| more(sequence.output)) {
        return;
    }
    for row in std::mem::take(&mut out.logits).chunks_exact(VOCAB) {
        let best = row.iter().zip(0..).find(|(logit, _)| **logit == LEAD);
        out.top.count = 1;
        out.top.logits.extend(best.map(|(logit, _)| logit));
        out.top.tokens.extend(best.map(|(_, token)| token));
    }
}

fn cell_of(blocks: &[u32], position: u32) -> Result<Cell, ModelError> {
    let (index, offset) = (position as usize / BLOCK_TOKENS, position % BLOCK_TOKENS as u32);
    let block =
        blocks.get(index).ok_or_else(|| ModelError::Step(format!("no block for position {position}")))?;
    Ok(Cell { block: *block, offset })
}

impl Forward for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn forward(&mut self, batch: &[Sequence<'_>], out: &mut StepOutput) -> Result<(), ModelError> {
        let entry = |sequence: &Sequence<'_>| PassEntry {
            start: sequence.start,
            count: sequence.tokens.len() as u32,
            output: sequence.output,
        };
        self.controls.passes.borrow_mut().push(batch.iter().map(entry).collect());
        if let Some((pass, token)) = self.controls.cost.get() {
            let tokens: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
            self.controls.clock.advance(pass + token * tokens as u32);
        }
        out.clear();
        self.controls.present()?;
        let failures = self.controls.failures.get();
        self.controls.failures.set(failures.saturating_sub(1));
        self.step(batch, out, failures > 0)
    }

    fn copy_cells(&mut self, copies: &[CellRun]) -> Result<(), ModelError> {
        for copy in copies {
            for index in 0..copy.count {
                let from = Cell { offset: copy.from.offset + index, ..copy.from };
                let to = Cell { offset: copy.to.offset + index, ..copy.to };
                *self.cell(to)? = *self.cell(from)?;
            }
        }
        Ok(())
    }

    fn shift(&mut self, shifts: &[CellShift]) -> Result<(), ModelError> {
        for shift in shifts {
            for offset in shift.offset..shift.offset + shift.count {
                if let Some(stored) = self.cell(Cell { block: shift.block, offset })? {
                    stored.position += i64::from(shift.delta);
                }
            }
        }
        Ok(())
    }

    async fn export(&mut self, block: u32, tokens: u32) -> Result<Vec<u8>, ModelError> {
        self.controls.present()?;
        let mut cells = Vec::new();
        for offset in 0..tokens {
            let stored = *self.cell(Cell { block, offset })?;
            let stored =
                stored.ok_or_else(|| ModelError::Step(format!("cell {offset} of block {block} is empty")))?;
            cells.extend(stored.token.0.to_le_bytes());
            cells.extend((stored.position as u32).to_le_bytes());
        }
        // K and V say the same.
        Ok(cells.repeat(2))
    }

    fn import(&mut self, block: u32, tokens: u32, data: &[u8]) -> Result<(), ModelError> {
        if data.len() != SHAPE.bytes(tokens as usize) {
            return Err(ModelError::Step(format!("{} bytes for {tokens} tokens", data.len())));
        }
        let (words, _) = data.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        for offset in 0..tokens {
            let (Some(token), Some(position)) = (words.next(), words.next()) else { break };
            *self.cell(Cell { block, offset })? =
                Some(Stored { token: TokenId(token), position: i64::from(position) });
        }
        Ok(())
    }
}
