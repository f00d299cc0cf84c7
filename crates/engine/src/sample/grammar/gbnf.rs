//! Reads llama.cpp's GBNF.
//!
//! `name ::= alternatives` a line; alternatives are separated by `|`, sequences of `"literals"`, `[classes]`, `.`,
//! `names` and `(groups)`, each with an optional `*`, `+`, `?`, `{m}`, `{m,}`, `{m,n}`. Line breaks are allowed inside
//! groups, after `|` and after `::=`; `#` begins a comment. Escapes are `\n \r \t \\ \" \[ \] \-`, `\xXX`, `\uXXXX` and
//! `\UXXXXXXXX`. A rule defined twice has its last meaning. Token references (`<think>`, `<[42]>`) are refused.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

/// Groups inside groups, and operators in a row.
const MAX_NESTING: usize = 64;
/// The most repetitions that can be demanded; an upper bound beyond it is none.
const MAX_REPETITIONS: u32 = 2000;

/// A grammar whose rules are all defined.
#[derive(Debug, PartialEq)]
pub(super) struct Gbnf {
    /// The bodies of the rules.
    pub(super) rules: Vec<Node>,
    /// Index of the rule `root`.
    pub(super) root: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Class(Class),
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat { node: Box<Node>, min: u32, max: Option<u32> },
}

/// A set of characters, or all others. `.` is all but none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) negated: bool,
    pub(super) ranges: Vec<(char, char)>,
}

/// Parses a grammar.
///
/// # Errors
/// The line and what was expected there, an undefined rule, or the lack of `root`.
pub(super) fn parse(text: &str) -> Result<Gbnf, String> {
    let mut parser =
        Parser { rest: text.chars().peekable(), line: 1, names: HashMap::new(), bodies: Vec::new() };
    parser.space(true);
    while parser.rest.peek().is_some() {
        if let Err(reason) = parser.rule() {
            return Err(format!("line {}: {reason}", parser.line));
        }
    }
    let root = *parser.names.get("root").ok_or("there is no rule named root")?;
    let undefined = parser.names.iter().find(|&(_, &index)| parser.bodies[index].is_none());
    if let Some((name, _)) = undefined {
        return Err(format!("the rule {name} is not defined"));
    }
    Ok(Gbnf { rules: parser.bodies.into_iter().flatten().collect(), root })
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    names: HashMap<String, usize>,
    bodies: Vec<Option<Node>>,
}

impl Parser<'_> {
    fn rule(&mut self) -> Result<(), String> {
        let index = self.name()?;
        self.space(false);
        for expected in "::=".chars() {
            self.expect(expected)?;
        }
        self.space(true);
        let body = self.choice(0)?;
        match self.rest.peek() {
            None | Some('\r' | '\n') => {}
            Some(found) => return Err(format!("expected the end of the line, found {found:?}")),
        }
        self.space(true);
        self.bodies[index] = Some(body);
        Ok(())
    }

    fn choice(&mut self, nesting: usize) -> Result<Node, String> {
        let mut alternatives = vec![self.sequence(nesting)?];
        while self.rest.next_if_eq(&'|').is_some() {
            self.space(true);
            alternatives.push(self.sequence(nesting)?);
        }
        Ok(single(alternatives, Node::Choice))
    }

    fn sequence(&mut self, nesting: usize) -> Result<Node, String> {
        let mut items = Vec::new();
        let mut operators = 0;
        loop {
            let operator = matches!(self.rest.peek(), Some('*' | '+' | '?' | '{'));
            operators = if operator { operators + 1 } else { 0 };
            if operators > MAX_NESTING {
                return Err(format!("more than {MAX_NESTING} operators in a row"));
            }
            match self.rest.peek() {
                Some('*') => self.repeat(&mut items, |_| Ok((0, None)))?,
                Some('+') => self.repeat(&mut items, |_| Ok((1, None)))?,
                Some('?') => self.repeat(&mut items, |_| Ok((0, Some(1))))?,
                Some('{') => self.repeat(&mut items, Self::bounds)?,
                _ => match self.item(nesting)? {
                    Some(item) => items.push(item),
                    None => return Ok(single(items, Node::Sequence)),
                },
            }
            self.space(nesting > 0);
        }
    }

    fn item(&mut self, nesting: usize) -> Result<Option<Node>, String> {
        let Some(&next) = self.rest.peek() else { return Ok(None) };
        let item = match next {
            '"' => self.literal()?,
            '[' => self.class()?,
            '.' => {
                self.rest.next();
                Node::Class(Class { negated: true, ranges: Vec::new() })
            }
            '(' => {
                if nesting == MAX_NESTING {
                    return Err(format!("more than {MAX_NESTING} groups inside each other"));
                }
                self.rest.next();
                self.space(true);
                let group = self.choice(nesting + 1)?;
                self.expect(')')?;
                group
            }
            '<' | '!' => return Err("token references are not supported".to_owned()),
            _ if is_name(next) => Node::Rule(self.name()?),
            _ => return Ok(None),
        };
        Ok(Some(item))
    }

    fn literal(&mut self) -> Result<Node, String> {
        self.expect('"')?;
        let mut characters = Vec::new();
        while self.rest.next_if_eq(&'"').is_none() {
            let character = self.character()?;
            characters.push(Node::Class(Class { negated: false, ranges: vec![(character, character)] }));
        }
        Ok(single(characters, Node::Sequence))
    }

    fn class(&mut self) -> Result<Node, String> {
        self.expect('[')?;
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        while self.rest.next_if_eq(&']').is_none() {
            let low = self.character()?;
            let mut ahead = self.rest.clone();
            let high = if ahead.next() == Some('-') && ahead.next() != Some(']') {
                self.rest.next();
                self.character()?
            } else {
                low
            };
            if high < low {
                return Err(format!("the range from {low:?} to {high:?} is empty"));
            }
            ranges.push((low, high));
        }
        // Brackets around nothing stand for no character at all.
        Ok(if ranges.is_empty() {
            Node::Sequence(Vec::new())
        } else {
            Node::Class(Class { negated, ranges })
        })
    }

    fn repeat(
        &mut self,
        items: &mut Vec<Node>,
        bounds: impl FnOnce(&mut Self) -> Result<(u32, Option<u32>), String>,
    ) -> Result<(), String> {
        let operator = self.rest.next();
        let (min, max) = bounds(self)?;
        let Some(node) = items.pop() else {
            return Err(format!("expected something to repeat before {:?}", operator.unwrap_or_default()));
        };
        let nothing = max == Some(0) || node == Node::Sequence(Vec::new());
        items.push(if nothing {
            Node::Sequence(Vec::new())
        } else {
            Node::Repeat { node: Box::new(node), min, max }
        });
        Ok(())
    }

    /// What follows a `{`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), String> {
        self.space(true);
        let min = self.number().ok_or("expected a number of repetitions")?;
        self.space(true);
        let mut max = Some(min);
        if self.rest.next_if_eq(&',').is_some() {
            self.space(true);
            max = self.number();
            self.space(true);
        }
        self.expect('}')?;
        if min > MAX_REPETITIONS {
            return Err(format!("more than {MAX_REPETITIONS} repetitions"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(format!("at least {min} repetitions cannot be fewer"));
        }
        Ok((min, max.filter(|&max| max <= MAX_REPETITIONS)))
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = None;
        while let Some(digit) = self.rest.peek().and_then(|next| next.to_digit(10)) {
            self.rest.next();
            number = Some(number.unwrap_or(0_u32).saturating_mul(10).saturating_add(digit));
        }
        number
    }

    fn name(&mut self) -> Result<usize, String> {
        let mut name = String::new();
        while let Some(letter) = self.rest.next_if(|&letter| is_name(letter)) {
            name.push(letter);
        }
        if name.is_empty() {
            return Err("expected a rule name".to_owned());
        }
        let index = *self.names.entry(name).or_insert(self.bodies.len());
        if index == self.bodies.len() {
            self.bodies.push(None);
        }
        Ok(index)
    }

    fn character(&mut self) -> Result<char, String> {
        match self.rest.next().ok_or("unexpected end of the grammar")? {
            '\\' => {}
            '\n' => {
                self.line += 1;
                return Ok('\n');
            }
            plain => return Ok(plain),
        }
        match self.rest.next() {
            Some('x') => self.hex(2),
            Some('u') => self.hex(4),
            Some('U') => self.hex(8),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('n') => Ok('\n'),
            Some(itself @ ('\\' | '"' | '[' | ']' | '-')) => Ok(itself),
            other => Err(format!("unknown escape \\{}", other.map_or(String::new(), String::from))),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<char, String> {
        let mut value = 0;
        for _ in 0..digits {
            let digit = self.rest.next().and_then(|digit| digit.to_digit(16));
            value = (value << 4) | digit.ok_or_else(|| format!("expected {digits} hexadecimal digits"))?;
        }
        char::from_u32(value).ok_or_else(|| format!("{value:#x} is not a character"))
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        match self.rest.next_if_eq(&expected) {
            Some(_) => Ok(()),
            None => Err(format!(
                "expected {expected:?}, found {}",
                match self.rest.peek() {
                    Some(found) => format!("{found:?}"),
                    None => "the end".to_owned(),
                }
            )),
        }
    }

    /// Skips blanks and comments, and on demand line breaks.
    fn space(&mut self, line_breaks: bool) {
        while let Some(&next) = self.rest.peek() {
            match next {
                ' ' | '\t' => {}
                '#' => {
                    while self.rest.next_if(|&other| other != '\n' && other != '\r').is_some() {}
                    continue;
                }
                '\r' if line_breaks => {}
                '\n' if line_breaks => self.line += 1,
                _ => return,
            }
            self.rest.next();
        }
    }
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '-'
}

fn single(mut nodes: Vec<Node>, several: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            several(nodes)
        }
        None => several(nodes),
    }
}
