//! The kernels on model files against llama.cpp's, in turns, and the servers around them.

mod host;
mod kernels;
pub(super) mod models;
mod table;

use std::path::PathBuf;

use anyhow::Result;

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
}

/// Our programs.
struct Ours {
    bench: PathBuf,
    server: PathBuf,
}

/// Measures ours and, when there is one, `peer`, in turn in every round.
pub(super) fn run(options: &Options, peer: Option<&Peer>) -> Result<()> {
    let Options { rounds, threads, only } = options;
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
        for test in TESTS {
            for _ in 0..*rounds {
                kernels::ours(&ours.bench, &model, *threads, test, [&mut table, &mut roof])?;
                if let Some(peer) = peer {
                    kernels::peers(peer, &model, *threads, test, &mut table)?;
                }
            }
            table.print(&name);
        }
        roof.print(&name);
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
