//! Writes a GBNF grammar in the Lark dialect of `llguidance`.
//!
//! The crate splits the text into lexemes, greedily, while GBNF has no lexemes: `[a-z]* "abc"` must be able to give its
//! last letters back. Two translations are exact. A grammar without recursion is one regular expression, hence one
//! lexeme, and fast. In any other every character is a lexeme of its own, and the parser does all the work.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::gbnf::{Class, Gbnf, Node};

/// Characters that a grammar without recursion may unfold to and still become one regular expression.
const MAX_UNFOLDED: u64 = 20_000;
/// Rules, groups and repetitions on the way from the root to a character. The crate recurses over them, at some 2.5 KiB
/// of stack each, and a browser's worker has a megabyte.
const MAX_DEPTH: usize = 250;

/// Translates a grammar.
///
/// # Errors
/// When rules are nested too deeply.
pub(super) fn render(grammar: &Gbnf) -> Result<String, String> {
    let order = reachable(grammar)?;
    let regular = unfolded(grammar, &order).is_some_and(|size| size <= MAX_UNFOLDED);
    let mut writer = Writer { regular, classes: HashMap::new(), out: String::new() };
    writer.out.push_str("start: ");
    writer.node(&Node::Rule(grammar.root));
    for rule in order {
        writer.out.push('\n');
        writer.node(&Node::Rule(rule));
        writer.out.push_str(": ");
        writer.node(&grammar.rules[rule]);
    }
    writer.out.push('\n');
    let mut terminals: Vec<_> = writer.classes.into_iter().collect();
    terminals.sort_unstable_by_key(|&(_, number)| number);
    for (class, number) in terminals {
        // Writing to a string does not fail.
        let _ = writeln!(writer.out, "C{number}: {}", pattern(&class));
    }
    Ok(writer.out)
}

struct Writer {
    regular: bool,
    classes: HashMap<Class, usize>,
    out: String,
}

impl Writer {
    fn node(&mut self, node: &Node) {
        match node {
            Node::Class(class) if self.regular => self.out.push_str(&pattern(class)),
            Node::Class(class) => {
                let next = self.classes.len();
                let number = *self.classes.entry(class.clone()).or_insert(next);
                let _ = write!(self.out, "C{number}");
            }
            // Lark tells terminals from rules by their case.
            Node::Rule(index) => {
                let _ = write!(self.out, "{}{index}", if self.regular { 'R' } else { 'r' });
            }
            Node::Sequence(nodes) if nodes.is_empty() => self.out.push_str("\"\""),
            Node::Sequence(nodes) => self.joined(nodes, " "),
            Node::Choice(nodes) => self.joined(nodes, " | "),
            Node::Repeat { node, min, max } => {
                self.out.push('(');
                self.node(node);
                self.out.push(')');
                let _ = match (min, max) {
                    (0, None) => write!(self.out, "*"),
                    (1, None) => write!(self.out, "+"),
                    (0, Some(1)) => write!(self.out, "?"),
                    (min, None) => write!(self.out, "{{{min},}}"),
                    (min, Some(max)) => write!(self.out, "{{{min},{max}}}"),
                };
            }
        }
    }

    fn joined(&mut self, nodes: &[Node], separator: &str) {
        for (index, node) in nodes.iter().enumerate() {
            if index > 0 {
                self.out.push_str(separator);
            }
            if matches!(node, Node::Choice(_)) {
                self.out.push('(');
                self.node(node);
                self.out.push(')');
            } else {
                self.node(node);
            }
        }
    }
}

/// A class as a regular expression; every character is escaped by number.
fn pattern(class: &Class) -> String {
    if class.negated && class.ranges.is_empty() {
        return "/./s".to_owned();
    }
    let mut out = String::from(if class.negated { "/[^" } else { "/[" });
    for &(low, high) in &class.ranges {
        let _ = write!(out, "\\x{{{:x}}}-\\x{{{:x}}}", low as u32, high as u32);
    }
    out.push_str("]/");
    out
}

/// The rules that the root leads to, in the order of first mention.
fn reachable(grammar: &Gbnf) -> Result<Vec<usize>, String> {
    let mut order = Vec::new();
    let mut seen = vec![false; grammar.rules.len()];
    let mut open = vec![(&grammar.rules[grammar.root], 0)];
    let mut mention = |rule: usize| {
        let new = !std::mem::replace(&mut seen[rule], true);
        if new {
            order.push(rule);
        }
        new
    };
    mention(grammar.root);
    while let Some((node, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err("rules and groups are nested too deeply".to_owned());
        }
        match node {
            Node::Class(_) => {}
            Node::Rule(rule) => {
                if mention(*rule) {
                    open.push((&grammar.rules[*rule], depth + 1));
                }
            }
            Node::Sequence(nodes) | Node::Choice(nodes) => {
                open.extend(nodes.iter().rev().map(|node| (node, depth + 1)));
            }
            Node::Repeat { node, .. } => open.push((node, depth + 1)),
        }
    }
    Ok(order)
}

/// How many characters the grammar would have with all rules put in place and all repetitions written out; `None` if a
/// rule leads to itself. `order` has the rules that matter, the root first.
fn unfolded(grammar: &Gbnf, order: &[usize]) -> Option<u64> {
    let mut sizes = vec![None; grammar.rules.len()];
    loop {
        let mut settled = false;
        for &rule in order.iter().rev() {
            if sizes[rule].is_none() {
                sizes[rule] = size(&grammar.rules[rule], &sizes);
                settled |= sizes[rule].is_some();
            }
        }
        if sizes[grammar.root].is_some() || !settled {
            return sizes[grammar.root];
        }
    }
}

fn size(node: &Node, rules: &[Option<u64>]) -> Option<u64> {
    let sum = |nodes: &[Node]| {
        nodes.iter().try_fold(0_u64, |sum, node| Some(sum.saturating_add(size(node, rules)?)))
    };
    match node {
        Node::Class(_) => Some(1),
        Node::Rule(rule) => rules[*rule],
        Node::Sequence(nodes) | Node::Choice(nodes) => sum(nodes),
        Node::Repeat { node, min, max } => {
            Some(size(node, rules)?.saturating_mul(u64::from(max.unwrap_or(*min).max(1))))
        }
    }
}
