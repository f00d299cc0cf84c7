//! The servers as a user meets them: from their start to the first token, a chat's first token, memory.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::table::{Side, Table};
use crate::bench::client;
use crate::bench::servers::Server;
use crate::bench::stats::Better;

/// One slot, and no cache but its own: a prompt must be cold in every round.
const FLAGS: [&str; 6] = ["-np", "1", "-c", "2048", "--cache-ram", "0"];
const CHAT_TOKENS: usize = 1000;

/// Starts the server, measures it and stops it. `chat` is the message of [`message`].
pub(super) fn measure(
    binary: &Path,
    model: &Path,
    threads: usize,
    chat: &str,
    side: Side,
    table: &mut Table,
) -> Result<()> {
    let start = Instant::now();
    let server = Server::start(binary, model, threads, &FLAGS)?;
    client::complete(&server.url, "Once", 1)?;
    let started = start.elapsed();
    let first_token = client::chat(&server.url, chat)?;
    table.add(side, "exec to first token, ms", Better::Lower, started.as_secs_f64() * 1e3);
    table.add(side, "TTFT of a 1k-token chat, ms", Better::Lower, first_token.as_secs_f64() * 1e3);
    if let Some(bytes) = server.peak_memory()? {
        table.add(side, "peak memory, MB", Better::Lower, bytes as f64 / 1e6);
    }
    Ok(())
}

/// A message of about [`CHAT_TOKENS`] tokens of the model.
pub(super) fn message(binary: &Path, model: &Path, threads: usize) -> Result<String> {
    let server = Server::start(binary, model, threads, &FLAGS)?;
    let text: String = (0..CHAT_TOKENS).map(|number| format!("Station {number} reports. ")).collect();
    let tokens = client::tokenize(&server.url, &text, false)?.len();
    // ASCII, so every byte begins a character.
    let end = text.len() * CHAT_TOKENS / tokens.max(CHAT_TOKENS);
    text.get(..end).map(str::to_owned).context("the message is not ASCII")
}
