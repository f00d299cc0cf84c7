//! The servers over HTTP: TTFT cold and cached, decoding, several clients, slot files, drafts.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::client::{self, Streamed};
use super::servers::Server;
use super::stats::{Better, Figure, cell, median};
use crate::{process, setup};

const PROMPT_TOKENS: usize = 1000;
const DECODE_TOKENS: usize = 128;
const CLIENT_TOKENS: usize = 64;
const CLIENTS: [usize; 3] = [1, 4, 8];
const SLOTS: usize = 8;
/// A text that is copied, and how much of the copy is generated.
const COPIED_TOKENS: usize = 300;
const COPY_TOKENS: usize = 256;

/// What is measured of a server in one round, in the order of the table.
const ROWS: [(&str, &str, Better); 10] = [
    ("TTFT cold, 1k-token prompt", "ms", Better::Lower),
    ("TTFT cached, same prompt", "ms", Better::Lower),
    ("decode, 1 client", "tokens/s", Better::Higher),
    ("aggregate, 1 client", "tokens/s", Better::Higher),
    ("aggregate, 4 clients", "tokens/s", Better::Higher),
    ("aggregate, 8 clients", "tokens/s", Better::Higher),
    ("slot save", "MB/s", Better::Higher),
    ("slot restore", "MB/s", Better::Higher),
    ("a text copied", "tokens/s", Better::Higher),
    ("the same with --spec-type ngram-simple", "tokens/s", Better::Higher),
];

/// Measures ours and, when there is one, the llama-server `peer`, in turn in every round.
pub(super) fn run(rounds: usize, threads: usize, peer: Option<PathBuf>) -> Result<()> {
    let model = setup::default_model()?;
    let binary = process::release_server()?;
    let slot_files = tempfile::tempdir()?;
    let folder = slot_files.path().to_str().context("the temporary folder is not UTF-8")?;
    let context = (SLOTS * 2048).to_string();
    // Without the RAM cache: a cold prompt must be cold in every round.
    let flags = ["-np", "8", "-c", &context, "--slot-save-path", folder, "--cache-ram", "0"];
    let drafting = ["-np", "1", "-c", "2048", "--cache-ram", "0", "--spec-type", "ngram-simple"];
    let start = |binary: PathBuf| {
        let plain = Server::start(&binary, &model, threads, &flags)?;
        Ok::<_, anyhow::Error>((plain, Server::start(&binary, &model, threads, &drafting)?))
    };
    let ours = start(binary)?;
    let peer = peer.map(start).transpose()?;
    let mut figures: [Figure; ROWS.len()] = std::array::from_fn(|_| Figure::default());
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (figure, sample) in figures.iter_mut().zip(measure(&ours, round)?) {
            figure.ours.push(sample);
        }
        if let Some(peer) = &peer {
            for (figure, sample) in figures.iter_mut().zip(measure(peer, round)?) {
                figure.peers.push(sample);
            }
        }
    }
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    print_table(&figures, rounds, threads, &name);
    Ok(())
}

/// Measures a server, and the same one with drafts.
fn measure((plain, drafting): &(Server, Server), round: usize) -> Result<[f64; ROWS.len()]> {
    let url = &plain.url;
    let prompt = prompt(url, round * 100, PROMPT_TOKENS)?;
    let cold = client::stream(url, &prompt, 1, 0)?;
    let warm = client::stream(url, &prompt, DECODE_TOKENS, 0)?;
    ensure!(warm.cached as usize == PROMPT_TOKENS - 1, "the second prompt was not cached: {}", warm.cached);
    let (written, save) = client::slot_file(url, 0, "save")?;
    let (read, restore) = client::slot_file(url, 1, "restore")?;
    let mut aggregate = [0.0; CLIENTS.len()];
    for (clients, speed) in CLIENTS.iter().zip(&mut aggregate) {
        *speed = aggregate_speed(url, *clients, round)?;
    }
    let milliseconds = |streamed: &Streamed| streamed.first_token.as_secs_f64() * 1e3;
    Ok([
        milliseconds(&cold),
        milliseconds(&warm),
        (warm.tokens - 1) as f64 / warm.rest.as_secs_f64(),
        aggregate[0],
        aggregate[1],
        aggregate[2],
        written as f64 / 1e6 / save.as_secs_f64(),
        read as f64 / 1e6 / restore.as_secs_f64(),
        copy_speed(url, round)?,
        copy_speed(&drafting.url, round)?,
    ])
}

/// Tokens a second of a text that stands in the prompt and has been begun again.
fn copy_speed(url: &str, round: usize) -> Result<f64> {
    let text = prompt(url, round * 100 + 50, COPIED_TOKENS)?;
    let copied = client::stream(url, &[&text, &text[..COPIED_TOKENS / 8]].concat(), COPY_TOKENS, 0)?;
    Ok((copied.tokens - 1) as f64 / copied.rest.as_secs_f64())
}

/// Tokens a second over all clients, each with a short prompt of its own in a slot of its own.
fn aggregate_speed(url: &str, clients: usize, round: usize) -> Result<f64> {
    let prompts =
        (0..clients).map(|client| prompt(url, round * 100 + client + 1, 32)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let tokens = thread::scope(|scope| {
        let run =
            |(slot, prompt)| scope.spawn(move || client::stream(url, prompt, CLIENT_TOKENS, slot as i64));
        let running: Vec<_> = prompts.iter().map(Vec::as_slice).enumerate().map(run).collect();
        running.into_iter().try_fold(0, |sum, client| {
            let streamed = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            Ok::<_, anyhow::Error>(sum + streamed.tokens)
        })
    })?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// A prompt of exactly `length` tokens that shares no beginning with that of another `number`.
pub(super) fn prompt(url: &str, number: usize, length: usize) -> Result<Vec<u32>> {
    let text: String =
        (0..length).map(|word| format!("{} station {} reports. ", number * 7919 + 1, word)).collect();
    let mut tokens = client::tokenize(url, &text, false)?;
    ensure!(tokens.len() >= length, "the prompt is too short");
    tokens.truncate(length);
    Ok(tokens)
}

fn print_table(figures: &[Figure], rounds: usize, threads: usize, model: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "\n{model}, {threads} threads, median of {rounds} interleaved rounds, load average {}",
        load.trim()
    );
    println!("ratio: how many times better ours is, median of the rounds' ratios\n");
    println!("| figure | unit | reprise | llama-server | ratio |\n| --- | --- | ---: | ---: | ---: |");
    for ((name, unit, better), figure) in ROWS.iter().zip(figures) {
        println!(
            "| {name} | {unit} | {} | {} | {} |",
            cell(median(&figure.ours), 1),
            cell(median(&figure.peers), 1),
            cell(figure.advantage(*better), 2)
        );
    }
}
