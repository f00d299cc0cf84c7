//! Stage 8: a loaded model behind the [`Forward`] seam: checks a step, lays it out, records it, reads it back.

use reprise_compute::{
    BLOCK_TOKENS, Backend, Cell, CellRun, MAX_TOP, Pass, Readback, Readout, SequenceLayout, StepLayout,
};

use crate::activations::Activations;
use crate::arch::{Network, Step};
use crate::head::Rows;
use crate::{CellShift, Forward, ModelError, ModelInfo, Output, Sequence, StepOutput};

/// A GGUF model on a backend, with its KV memory.
#[derive(Debug)]
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    pub(crate) network: Network<B::Weight>,
    pub(crate) kv: B::Kv,
    pub(crate) activations: Activations<B::Tensor>,
    pub(crate) readout: Readout,
    pub(crate) info: ModelInfo,
    pub(crate) limits: Limits,
}

/// What the buffers of a model were made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// KV blocks.
    pub(crate) blocks: u32,
    /// Tokens of a step.
    pub(crate) batch: usize,
    /// Rows of logits of a step.
    pub(crate) logit_rows: usize,
}

impl<B: Backend> Forward for Model<B> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn forward(&mut self, batch: &[Sequence<'_>], out: &mut StepOutput) -> Result<(), ModelError> {
        self.limits.check_step(batch, self.info.vocab)?;
        out.clear();
        // A pass reads one tensor back, so sequences that ask for hidden states get a pass of their own.
        let (hidden, others): (Vec<_>, Vec<_>) = batch.iter().partition(|s| s.output == Output::Hidden);
        if !others.is_empty() {
            self.scores(&others, out).await?;
        }
        if !hidden.is_empty() {
            self.hidden(&hidden, &mut out.hidden).await?;
        }
        Ok(())
    }

    fn copy_cells(&mut self, copies: &[CellRun]) -> Result<(), ModelError> {
        for &copy in copies {
            self.limits.check_cells(copy.from, copy.count)?;
            self.limits.check_cells(copy.to, copy.count)?;
            self.backend.copy_cells(&mut self.kv, copy)?;
        }
        Ok(())
    }

    fn shift(&mut self, shifts: &[CellShift]) -> Result<(), ModelError> {
        for &CellShift { block, offset, count, delta } in shifts {
            let at = Cell { block, offset };
            self.limits.check_cells(at, count)?;
            for layer in 0..self.info.kv.layers {
                let (rope, _) = self.network.attention(layer);
                self.backend.rotate_cells(&mut self.kv, layer, at, count as usize, delta, rope)?;
            }
        }
        Ok(())
    }

    async fn export(&mut self, block: u32, tokens: u32) -> Result<Vec<u8>, ModelError> {
        self.limits.check_cells(Cell { block, offset: 0 }, tokens)?;
        Ok(self.backend.export_block(&self.kv, block, tokens as usize).await?)
    }

    fn import(&mut self, block: u32, tokens: u32, data: &[u8]) -> Result<(), ModelError> {
        self.limits.check_cells(Cell { block, offset: 0 }, tokens)?;
        Ok(self.backend.import_block(&mut self.kv, block, tokens as usize, data)?)
    }
}

impl<B: Backend> Model<B> {
    /// Evaluates sequences that ask for logits or for nothing.
    async fn scores(&mut self, batch: &[&Sequence<'_>], out: &mut StepOutput) -> Result<(), ModelError> {
        let input = StepInput::new(batch);
        let layout = StepLayout { sequences: &input.sequences };
        let kv_only = input.scored_rows.is_empty();
        let rows = if kv_only { Rows::None } else { Rows::Logits(&input.scored_rows) };
        let count = top_count(batch, self.info.vocab);
        let mut pass = self.backend.pass(&layout);
        self.network.forward(
            &mut pass,
            Step { tokens: &input.tokens, rows },
            &mut self.kv,
            &mut self.activations,
        );
        let logits = &self.activations.logits;
        let read = match count {
            _ if kv_only => Readback::Nothing,
            Some(count) => Readback::Top { of: logits, count },
            None => Readback::Rows(logits),
        };
        pass.finish(read, &mut self.readout).await?;
        let Some(count) = count.filter(|_| !kv_only) else {
            std::mem::swap(&mut out.logits, &mut self.readout.values);
            return Ok(());
        };
        if has_equals(&self.readout.values, count) {
            let pass = self.backend.pass(&StepLayout { sequences: &[] });
            pass.finish(Readback::Rows(logits), &mut self.readout).await?;
            std::mem::swap(&mut out.logits, &mut self.readout.values);
            return Ok(());
        }
        out.top.count = count;
        std::mem::swap(&mut out.top.logits, &mut self.readout.values);
        std::mem::swap(&mut out.top.tokens, &mut self.readout.columns);
        Ok(())
    }

    /// Evaluates sequences that ask for the hidden states of all their tokens.
    async fn hidden(&mut self, batch: &[&Sequence<'_>], out: &mut Vec<f32>) -> Result<(), ModelError> {
        let input = StepInput::new(batch);
        let layout = StepLayout { sequences: &input.sequences };
        let step = Step { tokens: &input.tokens, rows: Rows::AllHidden };
        let mut pass = self.backend.pass(&layout);
        self.network.forward(&mut pass, step, &mut self.kv, &mut self.activations);
        pass.finish(Readback::Rows(&self.activations.normed), &mut self.readout).await?;
        std::mem::swap(out, &mut self.readout.values);
        Ok(())
    }
}

/// How many of the best logits answer every sequence that asks for some: one more than they ask for, which tells
/// whether the last that is wanted has an equal. `None` when only a whole row answers them all.
fn top_count(batch: &[&Sequence<'_>], vocab: usize) -> Option<usize> {
    let mut most = None;
    for sequence in batch {
        match sequence.output {
            Output::Top(count) | Output::EachTop(count) => most = most.max(Some(count as usize)),
            Output::LastLogits | Output::EachLogits => return None,
            Output::Nothing | Output::Hidden => {}
        }
    }
    most.map(|most| most.max(1).saturating_add(1))
        .filter(|count| *count <= MAX_TOP)
        .map(|count| count.min(vocab))
}

/// Whether neighbours in one of the rows of `count` are equal.
fn has_equals(values: &[f32], count: usize) -> bool {
    values.chunks(count.max(1)).any(|row| row.windows(2).any(|pair| pair[0] == pair[1]))
}

/// Sequences laid out as the rows of a step.
struct StepInput<'a> {
    tokens: Vec<u32>,
    sequences: Vec<SequenceLayout<'a>>,
    /// Rows whose logits are asked for.
    scored_rows: Vec<u32>,
}

impl<'a> StepInput<'a> {
    fn new(batch: &[&Sequence<'a>]) -> Self {
        let mut input =
            Self { tokens: Vec::new(), sequences: Vec::with_capacity(batch.len()), scored_rows: Vec::new() };
        for sequence in batch {
            let first = input.tokens.len();
            input.tokens.extend(sequence.tokens.iter().map(|token| token.0));
            let rows = first..input.tokens.len();
            let scored = sequence.output.score_rows(rows.len());
            input.scored_rows.extend((rows.end - scored..rows.end).map(|row| row as u32));
            input.sequences.push(SequenceLayout {
                rows,
                start: sequence.start as usize,
                blocks: sequence.blocks,
            });
        }
        input
    }
}

impl Limits {
    /// A step that passes can be laid out and computed without leaving any buffer.
    fn check_step(&self, batch: &[Sequence<'_>], vocab: usize) -> Result<(), ModelError> {
        let tokens: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        if tokens > self.batch {
            return Err(ModelError::Step(format!(
                "{tokens} tokens, but a step holds at most {}",
                self.batch
            )));
        }
        let rows: usize =
            batch.iter().map(|sequence| sequence.output.score_rows(sequence.tokens.len())).sum();
        if rows > self.logit_rows {
            return Err(ModelError::Step(format!(
                "{rows} rows of logits, at most {} can be had",
                self.logit_rows
            )));
        }
        for sequence in batch {
            let Sequence { tokens, start, blocks, .. } = sequence;
            if tokens.is_empty() {
                return Err(ModelError::Step("a sequence without tokens".into()));
            }
            if let Some(token) = tokens.iter().find(|token| token.index() >= vocab) {
                return Err(ModelError::Step(format!("token {token} is outside the vocabulary of {vocab}")));
            }
            let (end, cells) = (*start as usize + tokens.len(), blocks.len() * BLOCK_TOKENS);
            if end > cells {
                return Err(ModelError::Step(format!("{end} positions, but the blocks hold {cells}")));
            }
            if let Some(block) = blocks.iter().find(|&&block| block >= self.blocks) {
                return Err(self.outside(*block));
            }
        }
        Ok(())
    }

    fn check_cells(&self, at: Cell, count: u32) -> Result<(), ModelError> {
        if at.block >= self.blocks {
            return Err(self.outside(at.block));
        }
        let end = u64::from(at.offset) + u64::from(count);
        if end > BLOCK_TOKENS as u64 {
            return Err(ModelError::Step(format!("cell {end} of a block that holds {BLOCK_TOKENS}")));
        }
        Ok(())
    }

    fn outside(&self, block: u32) -> ModelError {
        ModelError::Step(format!("block {block} is outside the KV memory of {} blocks", self.blocks))
    }
}
