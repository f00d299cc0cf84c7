//! What the cache costs where there is nothing to reuse.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::stats::{Better, Figure, median};
use super::super::{client, http};
use super::{Contestant, Server};

const TOKENS: usize = 1000;
/// Pairs of prompts in a round: a difference of one percent is less than what one of them varies by.
const PAIRS: usize = 4;

/// Prints the speed of new prompts with everything on, and with everything off.
pub(super) fn run(ours: &Contestant, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_string_lossy().into_owned();
    let sizes = ["-np", "4", "-c", "8192"];
    let on = ours.start(&[&sizes[..], &["--cache-path", &path]].concat())?;
    let off = ours.start(&[&sizes[..], &["--cache-ram", "0"]].concat())?;
    let mut figure = Figure::default();
    for number in 0..rounds * PAIRS {
        let prompt = http::prompt(&on.url, number, TOKENS)?;
        let with = || speed(&on, &prompt, &json!({}));
        let without = || speed(&off, &prompt, &json!({"cache_prompt": false}));
        // What is measured second in a pair may find the machine otherwise.
        let (with, without) = if number % 2 == 0 {
            (with()?, without()?)
        } else {
            let without = without()?;
            (with()?, without)
        };
        figure.ours.push(with);
        figure.peers.push(without);
    }
    let [with, without] = [&figure.ours, &figure.peers].map(|speeds| median(speeds).unwrap_or(f64::NAN));
    let ratio = figure.advantage(Better::Higher).unwrap_or(f64::NAN);
    println!(
        "new {TOKENS}-token prompts, tokens/s: {with:.1} with the cache in memory and on disk, {without:.1} with it off; \
         median of {} pairs' ratios {ratio:.4}\n",
        rounds * PAIRS
    );
    Ok(())
}

/// Prompt tokens a second.
fn speed(server: &Server, prompt: &[u32], more: &Value) -> Result<f64> {
    let answer = client::completed(&server.url, prompt, 1, more)?;
    Ok(answer.computed as f64 / answer.prompt_time.as_secs_f64())
}
