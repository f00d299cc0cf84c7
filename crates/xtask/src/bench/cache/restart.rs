//! A chat that goes on after the server was killed, or ended.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::super::servers::Server;
use super::super::stats::median;
use super::super::{client, http};
use super::Contestant;

const TOKENS: usize = 2000;
const BLOCK: usize = 32;
/// Longest wait for blocks to be written.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the time to the first token cold and after a restart, with a cache folder.
pub(super) fn run(ours: &Contestant, rounds: usize) -> Result<()> {
    let (mut cold, mut killed, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_string_lossy().into_owned();
        let flags = ["-np", "2", "-c", "8192", "--metrics", "--cache-path", &path];
        let server = ours.start(&flags)?;
        let prompt = http::prompt(&server.url, round, TOKENS)?;
        let other = http::prompt(&server.url, rounds + round, TOKENS)?;
        cold.push(first_token(&server, &prompt)?.0);
        // A second request proves that the prompt will be asked for again: it is written behind the server's back.
        first_token(&server, &prompt)?;
        wait_until_written(&server)?;
        drop(server);

        let server = ours.start(&flags)?;
        let (time, cached) = first_token(&server, &prompt)?;
        ensure!(cached + BLOCK >= TOKENS, "after a kill only {cached} tokens came back");
        killed.push(time);
        first_token(&server, &other)?;
        server.end()?;

        let server = ours.start(&flags)?;
        let (time, cached) = first_token(&server, &other)?;
        ensure!(cached + BLOCK >= TOKENS, "after a stop only {cached} tokens came back");
        ended.push(time);
    }
    println!(
        "TTFT of a {TOKENS}-token prompt, --cache-path, medians of {rounds}; the ratio is that of the medians\n"
    );
    println!("| before | ms | cold is so many times it |\n| --- | ---: | ---: |");
    let [cold, killed, ended] = [&cold, &killed, &ended].map(|times| median(times).unwrap_or(f64::NAN));
    for (name, time) in
        [("nothing", cold), ("asked for twice, kill -9", killed), ("asked for once, SIGTERM", ended)]
    {
        println!("| {name} | {time:.1} | {:.1} |", cold / time);
    }
    println!();
    Ok(())
}

/// Milliseconds, and the prompt tokens that were not computed.
fn first_token(server: &Server, prompt: &[u32]) -> Result<(f64, usize)> {
    let streamed = client::stream(&server.url, prompt, 1, -1)?;
    Ok((streamed.first_token.as_secs_f64() * 1e3, streamed.cached as usize))
}

fn wait_until_written(server: &Server) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if server.metric("reprise:cache_disk_blocks")? as usize >= (TOKENS - 1) / BLOCK {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("the blocks were not written within {PATIENCE:?}")
}
