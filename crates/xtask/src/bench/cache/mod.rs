//! The prompt cache: what it saves in slots, in memory and on disk, and what it costs.
//!
//! `cycles` and `chats` count tokens, which come out the same on every machine; `files` and `overhead` take times.

mod chats;
mod cycles;
mod files;
mod overhead;
mod restart;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use super::servers::Server;
use crate::{process, setup};

/// A server that can be started anew for each measurement.
struct Contestant {
    name: &'static str,
    binary: PathBuf,
    model: PathBuf,
    threads: usize,
}

impl Contestant {
    fn start(&self, flags: &[&str]) -> Result<Server> {
        Server::start(&self.binary, &self.model, self.threads, flags)
    }

    /// Whether it is the server of this project.
    fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

const OURS: &str = "reprise";

/// A part of the measurements; all of them take half an hour with a llama-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    Cycles,
    Chats,
    Restart,
    Files,
    Overhead,
}

/// Measures ours and, when there is one, the llama-server `peer`; only some `parts`, if any are named.
pub(super) fn run(parts: &[Part], rounds: usize, threads: usize, peer: Option<PathBuf>) -> Result<()> {
    let model = setup::default_model()?;
    let contestant = |name, binary| Contestant { name, binary, model: model.clone(), threads };
    let ours = contestant(OURS, process::release_server()?);
    let peer = peer.map(|binary| contestant("llama-server", binary));
    let both: Vec<&Contestant> = [Some(&ours), peer.as_ref()].into_iter().flatten().collect();
    println!("{}, {threads} threads\n", name(&model));
    for part in Part::value_variants() {
        if !parts.is_empty() && !parts.contains(part) {
            continue;
        }
        match part {
            Part::Cycles => cycles::run(&both)?,
            Part::Chats => chats::run(&both)?,
            Part::Restart => restart::run(&ours, rounds)?,
            Part::Files => files::run(&both, rounds)?,
            Part::Overhead => overhead::run(&ours, rounds)?,
        }
    }
    Ok(())
}

fn name(model: &Path) -> String {
    model.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Flags as a table names them.
fn shown(flags: &[&str]) -> String {
    if flags.is_empty() { "(default)".to_owned() } else { flags.join(" ") }
}
