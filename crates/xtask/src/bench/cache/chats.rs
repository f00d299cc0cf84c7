//! Chats that take turns and have a long beginning in common.

use anyhow::Result;
use serde_json::json;

use super::super::{client, http};
use super::{Contestant, percent, shown};

const CHATS: usize = 14;
const TURNS: usize = 8;
const SYSTEM: usize = 600;
/// Tokens of a question and of an answer.
const QUESTION: usize = 32;
const ANSWER: usize = 24;
/// Ten slots with room for one chat each.
const SLOTS: &str = "10";
const CONTEXT: &str = "10880";
/// Tokens of a block.
const BLOCK: usize = 32;

const CASES: [&[&str]; 2] = [&[], &["--cache-ram", "0"]];

/// Prints how much was reused of what had been computed before, and the memory that it took.
pub(super) fn run(contestants: &[&Contestant]) -> Result<()> {
    println!(
        "{CHATS} chats x {TURNS} turns in turn over {SLOTS} slots, -c {CONTEXT}, the first {SYSTEM} tokens in common\n"
    );
    println!(
        "| flags | server | cached, % of the ideal | KV blocks in memory | of unshared |\n| --- | --- | ---: | ---: | ---: |"
    );
    for flags in CASES {
        for contestant in contestants {
            let Chats { cached, ideal, blocks, unshared } = play(contestant, flags)?;
            let flags = shown(flags);
            let memory = blocks.map_or("- | -".to_owned(), |blocks| {
                format!("{blocks} | {:.2}", blocks as f64 / unshared as f64)
            });
            println!("| {flags} | {} | {:.1} | {memory} |", contestant.name, percent(cached, ideal));
        }
    }
    println!();
    Ok(())
}

struct Chats {
    cached: usize,
    /// With memory without end: what each prompt has in common with any text before.
    ideal: usize,
    /// Distinct blocks at the end, where the server tells.
    blocks: Option<usize>,
    /// Blocks of all chats, were each held by itself.
    unshared: usize,
}

fn play(contestant: &Contestant, flags: &[&str]) -> Result<Chats> {
    let flags = [&["-np", SLOTS, "-c", CONTEXT, "--metrics"], flags].concat();
    let server = contestant.start(&flags)?;
    let url = &server.url;
    let system = http::prompt(url, 0, SYSTEM)?;
    let mut chats = vec![system; CHATS];
    let mut before: Vec<Vec<u32>> = Vec::new();
    let (mut cached, mut ideal) = (0, 0);
    for turn in 0..TURNS {
        for (number, chat) in chats.iter_mut().enumerate() {
            chat.extend(http::prompt(url, 1 + turn * CHATS + number, QUESTION)?);
            let common = before.iter().map(|text| common(text, chat)).max().unwrap_or(0);
            // The last token of a prompt is always computed.
            ideal += common.min(chat.len() - 1);
            let answer = client::completed(url, chat, ANSWER, &json!({}))?;
            cached += answer.cached;
            // The last token of an answer is not evaluated.
            chat.extend(answer.tokens);
            before.push(chat[..chat.len() - 1].to_vec());
        }
    }
    let blocks =
        if contestant.is_ours() { Some(server.metric("reprise:kv_blocks_used")? as usize) } else { None };
    let unshared = chats.iter().map(|chat| chat.len().div_ceil(BLOCK)).sum();
    Ok(Chats { cached, ideal, blocks, unshared })
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
