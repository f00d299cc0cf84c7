//! Conversations that share a system prompt: every turn asks for all that was said so far and something new.

use crate::workloads::{Request, Source};

const SYSTEM_BLOCKS: usize = 8;
/// Turns until a conversation ends and another takes its place.
const TURNS: std::ops::Range<u64> = 4..17;
/// Blocks of what is asked, and of what is answered, per turn.
const TURN_BLOCKS: std::ops::Range<u64> = 1..5;

struct Chat {
    name: u64,
    said: Vec<u64>,
    turns: u64,
}

pub(crate) fn requests(chats: u64, count: usize, source: &mut Source) -> Vec<Request> {
    let system = source.text(SYSTEM_BLOCKS);
    let mut chats: Vec<_> = (0..chats).map(|_| start(&system, source)).collect();
    let turn = |_| {
        let at = source.below(chats.len() as u64) as usize;
        if chats[at].turns == 0 {
            chats[at] = start(&system, source);
        }
        let chat = &mut chats[at];
        chat.turns -= 1;
        chat.said.extend(say(source));
        let prompt = chat.said.len();
        chat.said.extend(say(source));
        Request { conversation: chat.name, path: chat.said.clone(), prompt }
    };
    (0..count).map(turn).collect()
}

fn start(system: &[u64], source: &mut Source) -> Chat {
    let name = source.text(1)[0];
    Chat { name, said: system.to_vec(), turns: within(TURNS, source) }
}

fn say(source: &mut Source) -> Vec<u64> {
    let blocks = within(TURN_BLOCKS, source);
    source.text(blocks as usize)
}

fn within(range: std::ops::Range<u64>, source: &mut Source) -> u64 {
    range.start + source.below(range.end - range.start)
}
