//! The policy as the tree sees it, and its parts where the whole does not show them.

mod decisions;
mod experts;
mod limits;

use super::{NodeKey, Policy};

/// Block `depth` (from 1) of a text.
fn key(text: u64, depth: u64) -> NodeKey {
    NodeKey(text << 32 | depth)
}

/// A text's first blocks.
fn path(text: u64, blocks: u64) -> Vec<NodeKey> {
    (1..=blocks).map(|depth| key(text, depth)).collect()
}

/// A shared beginning and a text behind it.
fn behind(start: &[NodeKey], text: u64, blocks: u64) -> Vec<NodeKey> {
    [start, &path(text, blocks)].concat()
}

/// Texts without a common beginning in a cache of so many blocks, run by the policy.
struct Texts {
    policy: Policy,
    room: u64,
    /// Blocks held of each text, none of them zero.
    held: Vec<(u64, u64)>,
}

impl Texts {
    fn new(room: u32) -> Self {
        Self { policy: Policy::new(room), room: room.into(), held: Vec::new() }
    }

    /// Asks for a text; gives the blocks that were found.
    fn ask(&mut self, text: u64, blocks: u64) -> u64 {
        self.policy.request(&path(text, blocks));
        let found = self.held.iter().find(|(held, _)| *held == text).map_or(0, |(_, blocks)| *blocks);
        self.held.retain(|(held, _)| *held != text);
        while blocks + self.held.iter().map(|(_, blocks)| blocks).sum::<u64>() > self.room {
            let leaves = self.held.iter().map(|(text, blocks)| (key(*text, *blocks), *blocks as u32));
            let Some(NodeKey(victim)) = self.policy.victim(leaves) else { break };
            self.held
                .iter_mut()
                .filter(|(text, _)| *text == victim >> 32)
                .for_each(|(_, blocks)| *blocks -= 1);
            self.held.retain(|(_, blocks)| *blocks > 0);
        }
        self.held.push((text, blocks));
        found
    }
}
