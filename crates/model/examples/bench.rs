//! Speed of a model file on the CPU backend: what llama.cpp's `llama-bench` measures, without a server around it.
//!
//! `cargo run --release -p reprise-model --example bench -- model.gguf [threads] [prompt] [generated] [depth]` evaluates a prompt
//! of so many tokens in steps of 512, then generates one at a time, both behind `depth` tokens, and prints tokens a second.
//! `REPRISE_ISA` chooses the instruction set by name.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures time")]

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu};
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_model::{Forward, LoadOptions, Model, Output, Sequence, StepOutput, load};

/// llama-bench's `-ub`.
const STEP: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a GGUF file")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (threads, prompt, generated, depth) = (number(2)?, number(512)?, number(128)?, number(0)?);

    let start = Instant::now();
    let source = MemorySource(Bytes::from(std::fs::read(file)?));
    let blocks = (depth + prompt.max(generated)).div_ceil(BLOCK_TOKENS) as u32;
    let options = LoadOptions { blocks, batch: STEP, ..LoadOptions::default() };
    let mut bench = block_on(async {
        let gguf = Gguf::open(&source).await?;
        let cpu = match std::env::var("REPRISE_ISA") {
            Ok(name) => Cpu::on_instructions(threads, &name)?,
            Err(_) => Cpu::new(threads),
        };
        let model = load(&source, &gguf, cpu, options).await?;
        Ok::<_, Box<dyn Error>>(Bench { model, blocks: (0..blocks).collect(), out: StepOutput::default() })
    })?;
    println!("{}, loaded in {:.0} ms", bench.model.info().backend, start.elapsed().as_secs_f64() * 1e3);
    bench.evaluate(0, depth)?;
    // Once unmeasured: pages are touched and threads awake.
    bench.evaluate(depth, prompt.min(STEP))?;
    if prompt > 0 {
        let start = Instant::now();
        bench.evaluate(depth, prompt)?;
        println!("pp{prompt} {:.2}", prompt as f64 / start.elapsed().as_secs_f64());
    }
    if generated > 0 {
        let start = Instant::now();
        for position in depth..depth + generated {
            bench.step(position, 1, Output::Top(1))?;
        }
        println!("tg{generated} {:.2}", generated as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

struct Bench {
    model: Model<Cpu>,
    blocks: Vec<u32>,
    out: StepOutput,
}

impl Bench {
    /// Tokens from position `first` on, in steps; logits of the last.
    fn evaluate(&mut self, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
        for at in (0..count).step_by(STEP) {
            let taken = STEP.min(count - at);
            let output = if at + taken == count { Output::Top(1) } else { Output::Nothing };
            self.step(first + at, taken, output)?;
        }
        Ok(())
    }

    fn step(&mut self, first: usize, count: usize, output: Output) -> Result<(), Box<dyn Error>> {
        let vocab = self.model.info().vocab;
        let token = |position: usize| TokenId((position * 7919 % vocab) as u32);
        let tokens: Vec<_> = (first..first + count).map(token).collect();
        let step = Sequence { tokens: &tokens, start: first as u32, blocks: &self.blocks, output };
        Ok(block_on(self.model.forward(&[step], &mut self.out))?)
    }
}
