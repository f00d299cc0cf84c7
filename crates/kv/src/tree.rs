//! What is held beyond the slots: a prefix tree of blocks.
//!
//! A node is one block of KV under all the tokens before it. Slots hand their content in when it has been evaluated, so equal
//! blocks of equal prefixes exist once, whoever computed them. A prompt is looked up token by token from the root: it finds the
//! longest prefix of anything that is held, up to and into a partly filled block.
//!
//! Every tenant has a root of its own; nothing is ever found across them.

use std::collections::BTreeMap;

use reprise_gguf::TokenId;
use slab::Slab;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{BLOCK_TOKENS, count};
use crate::policy::NodeKey;
use crate::pool::Pool;
use crate::prefix::common_prefix;
use crate::slot::Sequence;
use crate::{BlockId, Tenant};

/// Texts that have nothing in common begin alike in fewer tokens (BOS, a space).
const FEW: u32 = 4;

/// A node's place in the tree; given again when the node is gone.
pub(crate) type NodeAt = usize;

#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Slab<Node>,
    /// The blocks at position zero.
    roots: BTreeMap<Tenant, Vec<NodeAt>>,
}

#[derive(Debug)]
pub(crate) struct Node {
    tenant: Tenant,
    pub(crate) parent: Option<NodeAt>,
    /// At most [`BLOCK_TOKENS`]; fewer only without children.
    tokens: Vec<TokenId>,
    pub(crate) block: BlockId,
    pub(crate) children: Vec<NodeAt>,
    pub(crate) key: NodeKey,
    /// Blocks above it.
    pub(crate) depth: u32,
}

impl Node {
    /// Tokens.
    pub(crate) fn len(&self) -> u32 {
        count(&self.tokens)
    }
}

/// What of a prompt is held.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Tokens.
    pub(crate) len: u32,
    /// The blocks that hold them; of the last one perhaps only the first cells.
    pub(crate) blocks: Vec<BlockId>,
    /// It is next to nothing: a few tokens, and less than a quarter of a first block.
    pub(crate) few: bool,
}

impl Tree {
    /// The longest prefix of `tokens` that is held.
    pub(crate) fn longest(&self, tenant: Tenant, tokens: &[TokenId]) -> Held {
        let mut held = Held::default();
        let mut children = self.roots(tenant);
        for wanted in tokens.chunks(BLOCK_TOKENS as usize) {
            let common = |at: NodeAt| common_prefix(&self.nodes[at].tokens, wanted);
            // The first of equals: `max_by_key` gives the last.
            let best = children.iter().rev().map(|at| (*at, common(*at))).max_by_key(|(_, common)| *common);
            let Some((at, best)) = best.filter(|(_, best)| *best > 0) else { break };
            let few = |at: &NodeAt| best < FEW && best * 4 < self.nodes[*at].len();
            held.few = held.len == 0 && children.iter().filter(|at| common(**at) == best).all(few);
            held.len += best;
            held.blocks.push(self.nodes[at].block);
            if best < BLOCK_TOKENS {
                break;
            }
            children = &self.nodes[at].children;
        }
        held
    }

    /// Takes in the first `len` tokens of what a slot holds, sharing its blocks. Where a block is held already, the slot gets
    /// the one that is there and its own is let go. A partly filled block goes in if `tail` says that nobody writes to it.
    pub(crate) fn insert(
        &mut self,
        tenant: Tenant,
        content: &mut Sequence,
        len: u32,
        tail: bool,
        pool: &mut Pool,
    ) {
        let mut parent = None;
        let keys = keys(tenant, &content.tokens[..len as usize]);
        for ((index, tokens), key) in
            content.tokens[..len as usize].chunks(BLOCK_TOKENS as usize).enumerate().zip(keys)
        {
            let full = count(tokens) == BLOCK_TOKENS;
            let siblings = self.children(tenant, parent);
            let found = siblings.iter().copied().find(|at| self.nodes[*at].tokens.starts_with(tokens));
            let Some(block) = content.blocks.get_mut(index) else { return };
            parent = match found {
                Some(at) if full => {
                    let held = self.nodes[at].block;
                    if *block != held {
                        pool.share(held);
                        pool.release(std::mem::replace(block, held));
                    }
                    Some(at)
                }
                None if full || tail => {
                    let obsolete = |at: &NodeAt| tokens.starts_with(&self.nodes[*at].tokens);
                    let obsolete: Vec<NodeAt> = siblings.iter().copied().filter(obsolete).collect();
                    obsolete.into_iter().for_each(|at| self.remove(at, pool));
                    pool.share(*block);
                    Some(self.add(Node {
                        tenant,
                        parent,
                        tokens: tokens.to_vec(),
                        block: *block,
                        children: Vec::new(),
                        key,
                        depth: index as u32,
                    }))
                }
                _ => return,
            };
        }
    }

    /// Takes back what nobody but its slot has a use for: from the end of `content` down to block `first`, blocks without children
    /// that no other slot holds. Gives the number of their tokens.
    pub(crate) fn forget(&mut self, tenant: Tenant, content: &Sequence, first: u32, pool: &mut Pool) -> u32 {
        let mut path = Vec::new();
        let mut parent = None;
        for (tokens, block) in content.tokens.chunks(BLOCK_TOKENS as usize).zip(&content.blocks) {
            // Of the last block the slot may have taken over only the first cells.
            let same =
                |at: &NodeAt| self.nodes[*at].tokens.starts_with(tokens) && self.nodes[*at].block == *block;
            let Some(at) = self.children(tenant, parent).iter().copied().find(same) else { break };
            path.push(at);
            parent = Some(at);
        }
        let mut tokens = 0;
        for at in path.into_iter().skip(first as usize).rev() {
            let node = &self.nodes[at];
            // The tree and the slot.
            if !node.children.is_empty() || pool.holders()[node.block.at()] != 2 {
                break;
            }
            tokens += node.len();
            self.remove(at, pool);
        }
        tokens
    }

    /// Drops a node without children. Its block is free only where nobody shares it.
    pub(crate) fn remove(&mut self, at: NodeAt, pool: &mut Pool) {
        let Some(node) = self.nodes.try_remove(at) else { return };
        debug_assert!(node.children.is_empty(), "a block goes after what stands on it");
        let siblings = match node.parent {
            Some(parent) => &mut self.nodes[parent].children,
            None => self.roots.entry(node.tenant).or_default(),
        };
        siblings.retain(|other| *other != at);
        if node.parent.is_none() && siblings.is_empty() {
            self.roots.remove(&node.tenant);
        }
        pool.release(node.block);
    }

    /// Blocks held.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, at: NodeAt) -> &Node {
        &self.nodes[at]
    }

    /// Nodes without children, in no meaningful but always the same order.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = NodeAt> {
        self.nodes.iter().filter(|(_, node)| node.children.is_empty()).map(|(at, _)| at)
    }

    /// Everything held: for each leaf its tokens from the root on, and their blocks.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (Tenant, Sequence)> {
        self.leaves().map(|leaf| {
            let mut path: Vec<&Node> = std::iter::successors(Some(leaf), |at| self.nodes[*at].parent)
                .map(|at| &self.nodes[at])
                .collect();
            path.reverse();
            let tokens: Vec<TokenId> = path.iter().flat_map(|node| node.tokens.iter().copied()).collect();
            let (exact, blocks) = (count(&tokens), path.iter().map(|node| node.block).collect());
            (self.nodes[leaf].tenant, Sequence { tokens, blocks, exact })
        })
    }

    /// The block of every node.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.nodes.iter().map(|(_, node)| node.block)
    }

    fn roots(&self, tenant: Tenant) -> &[NodeAt] {
        self.roots.get(&tenant).map_or(&[], Vec::as_slice)
    }

    fn children(&self, tenant: Tenant, parent: Option<NodeAt>) -> &[NodeAt] {
        match parent {
            Some(parent) => &self.nodes[parent].children,
            None => self.roots(tenant),
        }
    }

    fn add(&mut self, node: Node) -> NodeAt {
        let (tenant, parent) = (node.tenant, node.parent);
        let at = self.nodes.insert(node);
        match parent {
            Some(parent) => self.nodes[parent].children.push(at),
            None => self.roots.entry(tenant).or_default().push(at),
        }
        at
    }

    /// Invariants; see [`crate::Cache::check`].
    pub(crate) fn check(&self) -> Result<(), String> {
        for (at, node) in &self.nodes {
            if !self.children(node.tenant, node.parent).contains(&at) {
                return Err(format!("node {at} is an orphan"));
            }
            if node.tokens.is_empty() || node.tokens.len() > BLOCK_TOKENS as usize {
                return Err(format!("node {at} has {} tokens", node.tokens.len()));
            }
            if count(&node.tokens) < BLOCK_TOKENS && !node.children.is_empty() {
                return Err(format!("node {at} stands under others and is not full"));
            }
            let depth = node.parent.map_or(0, |parent| self.nodes[parent].depth + 1);
            if depth != node.depth {
                return Err(format!("node {at} is at depth {depth}, not {}", node.depth));
            }
            let siblings = self.children(node.tenant, node.parent).iter().filter(|other| **other != at);
            if siblings.into_iter().any(|other| self.nodes[*other].tokens.starts_with(&node.tokens)) {
                return Err(format!("node {at} is a prefix of a sibling"));
            }
        }
        let linked: usize = self.nodes.iter().map(|(_, node)| node.children.len()).sum();
        let roots: usize = self.roots.values().map(Vec::len).sum();
        if linked + roots != self.nodes.len() {
            return Err("a node has two parents, or a parent a node that is gone".into());
        }
        Ok(())
    }
}

/// The identities of a text's blocks, each under all before it.
pub(crate) fn keys(tenant: Tenant, tokens: &[TokenId]) -> Vec<NodeKey> {
    let child = |parent: u64, tokens: &[TokenId]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect();
        xxh3_64_with_seed(&bytes, parent)
    };
    let chain = tokens.chunks(BLOCK_TOKENS as usize).scan(tenant.0, |parent, tokens| {
        *parent = child(*parent, tokens);
        Some(NodeKey(*parent))
    });
    chain.collect()
}
