//! Speed of a model file on the CPU backend: what llama.cpp's `llama-bench` and `llama-batched-bench` measure, without a
//! server around it.
//!
//! `cargo run --release -p reprise-model --example bench -- model.gguf [threads] [prompt] [generated] [depth] [sequences]`
//! evaluates a prompt of so many tokens in steps of 512, then generates one at a time, both behind `depth` tokens. With
//! `sequences` (`1,2,4,8`) it generates in so many sequences a step, each behind tokens of its own. Each line has the tokens
//! a second, and per cent of the machine's roof, which is measured afterwards: multiply-adds for a prompt, bytes read
//! for what is generated. `REPRISE_ISA` chooses the instruction set by name.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures time")]

mod work;

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu};
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_model::{Forward, LoadOptions, Model, Output, Sequence, StepOutput, load};

use work::{Roof, Work};

/// llama-bench's `-ub`.
const STEP: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a GGUF file")?;
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (threads, prompt, generated, depth) = (number(2)?, number(512)?, number(128)?, number(0)?);
    let batches =
        arguments.next().map(|text| text.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>());
    let batches = batches.transpose()?;

    let cpu = || match std::env::var("REPRISE_ISA") {
        Ok(name) => Cpu::new(threads).with_instructions(&name),
        Err(_) => Ok(Cpu::new(threads)),
    };
    let sequences = batches.iter().flatten().copied().max().unwrap_or(1).max(1);
    let tokens = depth + prompt.max(generated);
    let start = Instant::now();
    let mut bench = Bench::load(&file, cpu()?, sequences, tokens)?;
    println!("{}, loaded in {:.0} ms", bench.model.info().backend, start.elapsed().as_secs_f64() * 1e3);
    // Once unmeasured: pages are touched and threads awake.
    bench.evaluate(0, 0, tokens.min(STEP))?;
    for sequence in 0..sequences {
        bench.evaluate(sequence, 0, depth)?;
    }
    let mut rows = Vec::new();
    if prompt > 0 {
        let start = Instant::now();
        bench.evaluate(0, depth, prompt)?;
        let last = prompt - (prompt - 1) / STEP * STEP;
        rows.push((
            format!("pp{prompt}"),
            prompt,
            start.elapsed(),
            Cost::Products(bench.work.products(prompt, last)),
        ));
    }
    for &count in batches.as_deref().unwrap_or(&[1]) {
        if generated == 0 || count == 0 {
            continue;
        }
        let start = Instant::now();
        for position in depth..depth + generated {
            bench.generate(count, position)?;
        }
        let name =
            if batches.is_some() { format!("tg{generated}x{count}") } else { format!("tg{generated}") };
        let bytes = (depth..depth + generated).map(|position| bench.work.bytes(position, count)).sum();
        rows.push((name, generated * count, start.elapsed(), Cost::Bytes(bytes)));
    }
    drop(bench);
    let roof = Roof::measure(&cpu()?)?;
    println!("roof: {:.1} G multiply-adds/s, {:.1} GB/s", roof.products / 1e9, roof.bytes / 1e9);
    for (name, tokens, time, cost) in rows {
        let seconds = time.as_secs_f64();
        let least = match cost {
            Cost::Products(products) => products / roof.products,
            Cost::Bytes(bytes) => bytes / roof.bytes,
        };
        println!("{name} {:.2} {:.1}", tokens as f64 / seconds, 100.0 * least / seconds);
    }
    Ok(())
}

/// What bounds a test.
enum Cost {
    Products(f64),
    Bytes(f64),
}

struct Bench {
    model: Model<Cpu>,
    work: Work,
    /// Of each sequence.
    blocks: Vec<Vec<u32>>,
    out: StepOutput,
}

impl Bench {
    /// With room for `tokens` in each of the sequences.
    fn load(file: &str, cpu: Cpu, sequences: usize, tokens: usize) -> Result<Self, Box<dyn Error>> {
        let source = MemorySource(Bytes::from(std::fs::read(file)?));
        let each = tokens.div_ceil(BLOCK_TOKENS) as u32;
        let blocks: Vec<Vec<u32>> =
            (0..sequences as u32).map(|i| (i * each..(i + 1) * each).collect()).collect();
        let blocks_of_all = each * sequences as u32;
        let options = LoadOptions {
            blocks: blocks_of_all,
            batch: STEP,
            logit_rows: sequences,
            ..LoadOptions::default()
        };
        block_on(async {
            let gguf = Gguf::open(&source).await?;
            let model = load(&source, &gguf, cpu, options).await?;
            let work = Work::new(&gguf, model.info().kv)?;
            Ok(Self { model, work, blocks, out: StepOutput::default() })
        })
    }

    /// Tokens of a sequence from position `first` on, in steps; logits of the last.
    fn evaluate(&mut self, sequence: usize, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
        let tokens: Vec<_> = (first..first + count).map(|position| self.token(sequence, position)).collect();
        for (index, tokens) in tokens.chunks(STEP).enumerate() {
            let output = if (index + 1) * STEP >= count { Output::Top(1) } else { Output::Nothing };
            let start = (first + index * STEP) as u32;
            let step = Sequence { tokens, start, blocks: &self.blocks[sequence], output };
            block_on(self.model.forward(&[step], &mut self.out))?;
        }
        Ok(())
    }

    /// One token of each of the first `sequences`, and its best logit.
    fn generate(&mut self, sequences: usize, position: usize) -> Result<(), Box<dyn Error>> {
        let tokens: Vec<_> = (0..sequences).map(|sequence| [self.token(sequence, position)]).collect();
        let sequence =
            |(tokens, blocks)| Sequence { tokens, start: position as u32, blocks, output: Output::Top(1) };
        let step: Vec<_> = tokens
            .iter()
            .map(<[TokenId; 1]>::as_slice)
            .zip(self.blocks.iter().map(Vec::as_slice))
            .map(sequence)
            .collect();
        Ok(block_on(self.model.forward(&step, &mut self.out))?)
    }

    fn token(&self, sequence: usize, position: usize) -> TokenId {
        TokenId(((position * 7919 + sequence * 104_729) % self.model.info().vocab) as u32)
    }
}
