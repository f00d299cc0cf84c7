//! The kernels on model files against llama.cpp's, in turns, and the servers around them.

mod host;
mod kernels;
pub(super) mod models;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use super::peer::Peer;
use crate::process;
use kernels::TESTS;
use table::{Side, Table};

/// What to measure, and how.
pub(super) struct Options {
    pub rounds: usize,
    pub threads: usize,
    /// Parts of the names of the wanted files; empty for all.
    pub only: Vec<String>,
    /// Empty for all.
    pub figures: Vec<Figures>,
}

/// Kinds of figures, since all of them take minutes a file and round.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Figures {
    /// A prompt of 512 tokens and decoding from nothing
    Short,
    /// A prompt of 2048 tokens and decoding behind one
    Long,
    /// Several sequences at once
    Batched,
    /// The servers' start, first token and memory
    Host,
}

/// Our programs.
struct Ours {
    bench: PathBuf,
    server: PathBuf,
}

/// Measures ours and, when there is one, `peer`, in turn in every round.
pub(super) fn run(options: &Options, peer: Option<&Peer>) -> Result<()> {
    let Options { rounds, threads, only, figures } = options;
    let wanted = |kind: Figures| figures.is_empty() || figures.contains(&kind);
    let ours = Ours {
        bench: process::release_example("reprise-model", "bench")?,
        server: process::release_server()?,
    };
    println!(
        "{threads} threads, medians of {rounds} interleaved rounds, tokens/s unless another unit is named; llama.cpp with the\n\
         better of -fa 0 and 1. Ratio: how many times better ours is, median of the rounds' ratios. Of the roof: multiply-adds of\n\
         prompts to what the processor does, bytes read in decoding to what memory gives, measured with each sample of ours\n"
    );
    Table::print_head();
    for model in models::all(only)? {
        let name = models::name(&model);
        let (mut table, mut roof) = (Table::default(), Table::default());
        for test in TESTS.into_iter().filter(|test| wanted(test.kind())) {
            for _ in 0..*rounds {
                kernels::ours(&ours.bench, &model, *threads, test, [&mut table, &mut roof])?;
                if let Some(peer) = peer {
                    kernels::peers(peer, &model, *threads, test, &mut table)?;
                }
            }
            table.print(&name);
        }
        roof.print(&name);
        if !wanted(Figures::Host) {
            continue;
        }
        let chat = host::message(&ours.server, &model, *threads)?;
        let server = peer.and_then(|peer| peer.program("llama-server"));
        for _ in 0..*rounds {
            host::measure(&ours.server, &model, *threads, &chat, Side::Ours, &mut table)?;
            if let Some(server) = &server {
                host::measure(server, &model, *threads, &chat, Side::Peers, &mut table)?;
            }
        }
        table.print(&name);
    }
    Ok(())
}
