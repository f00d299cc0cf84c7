//! What a real llama-server chose on stories260K, one seed after the other and over several steps.
//!
//! `data/server.json` holds rows of log-probabilities over the whole vocabulary as the server reported them (`n_probs`,
//! hexadecimal floats) and the tokens it chose with each set of parameters. They stand in for the logits, which differ
//! by a constant: every sampler is blind to it but the repeat penalty, which therefore does not occur here.

use serde_json::Value;

use super::wire::{Case, token};
use crate::sample::candidates::Candidates;
use crate::sample::chain::{Chain, Setting};
use crate::sample::dry::Breakers;

fn logits(row: &str) -> Vec<f32> {
    let bits = |at: usize| u32::from_str_radix(&row[at..at + 8], 16).unwrap();
    (0..row.len()).step_by(8).map(|at| f32::from_bits(bits(at))).collect()
}

#[test]
fn chains_choose_the_servers_tokens() {
    let recorded: Value = serde_json::from_str(include_str!("data/server.json")).unwrap();
    let rows: Vec<_> = Case(&recorded).list("rows").iter().map(|row| logits(row.as_str().unwrap())).collect();
    for case in Case(&recorded).list("cases") {
        let mut params = Case(&case["params"]).sampling();
        for run in Case(case).list("runs") {
            params.seed = token(&run["seed"]).0;
            // No recorded text comes near the one breaker, a line feed.
            let setting = Setting { vocab: 512, context: 512, banned: &[], breakers: &Breakers::default };
            let mut chain = Chain::new(&params, &setting);
            Case(case).tokens("prompt").into_iter().for_each(|token| chain.accept(token));
            let mut candidates = Candidates::default();
            for (row, expected) in Case(run).list("rows").iter().zip(Case(run).tokens("tokens")) {
                candidates.load(&rows[row.as_u64().unwrap() as usize]);
                chain.apply(&mut candidates);
                let chosen = candidates.chosen().unwrap().id;
                assert_eq!(chosen, expected.0, "{}, seed {}", case["name"], params.seed);
                chain.accept(expected);
            }
        }
    }
}
