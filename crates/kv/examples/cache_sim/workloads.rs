//! What is asked for: lists of requests in blocks, from a seed.

use rand_mt::Mt64;

use crate::chat;

/// Usual length of a prompt.
pub(crate) const PROMPT_BLOCKS: usize = 32;
/// Prompts differ in length by so much in both directions.
const SPREAD: u64 = 8;
/// Longest answer to a prompt; it is held like the prompt, but never asked for.
const ANSWER_BLOCKS: u64 = 3;

/// A prompt, and the answer that is generated behind it.
pub(crate) struct Request {
    /// The prompt or conversation it belongs to, for caches that keep whole ones.
    pub(crate) conversation: u64,
    /// Blocks of prompt and answer. Equal blocks stand behind equal ones only.
    pub(crate) path: Vec<u64>,
    /// How many of them are the prompt's.
    pub(crate) prompt: usize,
}

/// A row of the table.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) target: Target,
    shape: Shape,
}

/// What is asked of the policy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Not far below the best possible.
    Belady,
    /// Not far below LRU, which is good at it.
    Lru,
    None,
}

enum Shape {
    /// Working sets asked for in turn, each for an equal share of the time; the per cent of one-off prompts among them.
    Cycle { sets: Vec<u64>, one_off: u64 },
    /// So many prompts, the n-th of them with a probability of 1/n.
    Zipf(u64),
    /// So many conversations at a time, any of which may be next.
    Chats(u64),
    /// One after the other, each for an equal share of the time.
    Turns(Vec<Shape>),
}

pub(crate) fn all() -> Vec<Workload> {
    let workload = |name: &str, target, shape| Workload { name: name.into(), target, shape };
    let cycle = |sets: &[u64], one_off| Shape::Cycle { sets: sets.to_vec(), one_off };
    vec![
        workload("cycle of 11", Target::Belady, cycle(&[11], 0)),
        workload("cycle of 12", Target::Belady, cycle(&[12], 0)),
        workload("cycle of 15", Target::Belady, cycle(&[15], 0)),
        workload("cycle of 20", Target::Belady, cycle(&[20], 0)),
        workload("cycle of 11, 20 % one-off", Target::Belady, cycle(&[11], 20)),
        workload("cycle of 8, 30 % one-off", Target::Belady, cycle(&[8], 30)),
        workload("cycles of 11, 9, 15", Target::Belady, cycle(&[11, 9, 15], 0)),
        workload("Zipf over 100", Target::None, Shape::Zipf(100)),
        workload("8 chats", Target::Lru, Shape::Chats(8)),
        workload("14 chats", Target::Lru, Shape::Chats(14)),
        workload(
            "cycle of 12, 14 chats, in turns",
            Target::None,
            Shape::Turns(vec![cycle(&[12], 0), Shape::Chats(14), cycle(&[12], 0), Shape::Chats(14)]),
        ),
    ]
}

impl Workload {
    pub(crate) fn requests(&self, seed: u64, count: usize) -> Vec<Request> {
        self.shape.requests(count, &mut Source { random: Mt64::new(seed), texts: 0 })
    }
}

impl Shape {
    fn requests(&self, count: usize, source: &mut Source) -> Vec<Request> {
        match self {
            Self::Cycle { sets, one_off } => cycle(sets, *one_off, count, source),
            Self::Zipf(prompts) => zipf(*prompts, count, source),
            Self::Chats(chats) => chat::requests(*chats, count, source),
            Self::Turns(shapes) => {
                shapes.iter().flat_map(|shape| shape.requests(count / shapes.len(), source)).collect()
            }
        }
    }
}

/// Randomness, and texts never seen before.
pub(crate) struct Source {
    random: Mt64,
    texts: u64,
}

impl Source {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn text(&mut self, blocks: usize) -> Vec<u64> {
        self.texts += 1;
        (0..blocks as u64).map(|block| (self.texts << 20) | block).collect()
    }

    fn prompt(&mut self) -> Vec<u64> {
        let blocks = PROMPT_BLOCKS as u64 - SPREAD + self.below(2 * SPREAD + 1);
        self.text(blocks as usize)
    }

    /// The prompt with an answer that is another one each time.
    fn request(&mut self, prompt: &[u64]) -> Request {
        let answer = 1 + self.below(ANSWER_BLOCKS);
        let path = [prompt, &self.text(answer as usize)].concat();
        Request { conversation: prompt[0], path, prompt: prompt.len() }
    }
}

fn cycle(sets: &[u64], one_off: u64, count: usize, source: &mut Source) -> Vec<Request> {
    let mut requests = Vec::with_capacity(count);
    for (phase, set) in sets.iter().enumerate() {
        let prompts: Vec<_> = (0..*set).map(|_| source.prompt()).collect();
        let mut turn = prompts.iter().cycle();
        while requests.len() < count * (phase + 1) / sets.len() {
            let once = (source.below(100) < one_off).then(|| source.prompt());
            if let Some(prompt) = once.as_ref().or_else(|| turn.next()) {
                requests.push(source.request(prompt));
            }
        }
    }
    requests
}

fn zipf(prompts: u64, count: usize, source: &mut Source) -> Vec<Request> {
    const SCALE: u64 = 1 << 32;
    let prompts: Vec<_> = (1..=prompts).map(|rank| (SCALE / rank, source.prompt())).collect();
    let total = prompts.iter().map(|(weight, _)| weight).sum();
    let draw = |_| {
        let mut at = source.below(total);
        let hit = |(weight, _): &&(u64, _)| {
            let is_hit = at < *weight;
            at = at.wrapping_sub(*weight);
            is_hit
        };
        let (_, prompt) = prompts.iter().find(hit).unwrap_or(&prompts[0]);
        source.request(prompt)
    };
    (0..count).map(draw).collect()
}
