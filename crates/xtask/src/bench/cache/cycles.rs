//! More prompts than slots, one after the other, over and over.

use anyhow::Result;
use serde_json::json;

use super::super::{client, http};
use super::{Contestant, percent, shown};

const TOKENS: usize = 1000;
const SLOTS: &str = "10";
/// Ten slots of which each has room for one of the prompts and an answer. Ours has one slot's memory more, for restores, where an
/// eleventh prompt fits.
const CONTEXT: &str = "10240";
/// Rounds of ours. llama-server takes the same decision in every round: few of them show it.
const ROUNDS: usize = 20;
const PEER_ROUNDS: usize = 3;

/// Prompts, and the flag sets that each server is started with.
const CASES: [(usize, &[&str]); 3] = [(11, &[]), (11, &["--cache-ram", "0"]), (20, &["--cache-ram", "0"])];

/// Prints which part of the prompts was reused, from the second round on.
pub(super) fn run(contestants: &[&Contestant]) -> Result<()> {
    println!(
        "{TOKENS}-token prompts in turn over {SLOTS} slots, -c {CONTEXT}: prompt tokens reused, from the second round on\n"
    );
    println!(
        "| prompts | flags | server | rounds | reused % | bound % |\n| ---: | --- | --- | ---: | ---: | ---: |"
    );
    for (prompts, flags) in CASES {
        for contestant in contestants {
            let rounds = if contestant.is_ours() { ROUNDS } else { PEER_ROUNDS };
            let reused = reused(contestant, flags, prompts, rounds)?;
            // One token of a prompt is always computed. Without more memory, each round computes at least what ten slots
            // cannot hold, which Belady's rule spreads over n - 1 requests.
            let whole = 100.0 * (TOKENS - 1) as f64 / TOKENS as f64;
            let bound = if flags.is_empty() { whole } else { whole * 9.0 / (prompts - 1) as f64 };
            let flags = shown(flags);
            println!("| {prompts} | {flags} | {} | {rounds} | {reused:.1} | {bound:.1} |", contestant.name);
        }
    }
    println!();
    Ok(())
}

fn reused(contestant: &Contestant, flags: &[&str], prompts: usize, rounds: usize) -> Result<f64> {
    let flags = [&["-np", SLOTS, "-c", CONTEXT], flags].concat();
    let server = contestant.start(&flags)?;
    let prompts =
        (0..prompts).map(|number| http::prompt(&server.url, number, TOKENS)).collect::<Result<Vec<_>>>()?;
    let (mut cached, mut all) = (0, 0);
    for round in 0..rounds {
        for prompt in &prompts {
            let answer = client::completed(&server.url, prompt, 1, &json!({}))?;
            if round > 0 {
                cached += answer.cached;
                all += answer.cached + answer.computed;
            }
        }
    }
    Ok(percent(cached, all))
}
