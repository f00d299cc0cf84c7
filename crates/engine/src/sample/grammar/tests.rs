//! Grammars and schemas on small vocabularies.

use super::*;

/// A vocabulary of all bytes, some words, and two tokens that end a generation.
fn compiler() -> Arc<Compiler> {
    static COMPILER: OnceLock<Arc<Compiler>> = OnceLock::new();
    let build = || {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = ["the", "abc", " \"", "{\"", "\"}", "true", "ab", "é!", "abc", "", "</s>", "<end>"];
        let pieces: Vec<Vec<u8>> = bytes.chain(words.map(|word| word.as_bytes().to_vec())).collect();
        let ends = vec![TokenId(pieces.len() as u32 - 2), TokenId(pieces.len() as u32 - 1)];
        Arc::new(Compiler::new(pieces.iter().map(Vec::as_slice), ends).unwrap())
    };
    COMPILER.get_or_init(build).clone()
}

fn gbnf(source: &str) -> Result<Matcher, EngineError> {
    Matcher::new(compiler(), &Grammar::Gbnf(source.to_owned()))
}

fn json(schema: &str) -> Result<Matcher, EngineError> {
    Matcher::new(compiler(), &Grammar::JsonSchema(schema.to_owned()))
}

/// Whether the text and then an end is possible, byte by byte.
fn admits(matcher: &mut Matcher, text: &str) -> bool {
    let steps = text.bytes().all(|byte| {
        let token = TokenId(u32::from(byte));
        let allowed = matcher.allows(token).unwrap();
        matcher.accept(token);
        allowed
    });
    let ends = matcher.compiler.end_of_generation.clone();
    steps && ends.into_iter().all(|end| matcher.allows(end).unwrap())
}

/// The possible continuations: the mask, which has to agree with asking for each token.
fn continuations(matcher: &mut Matcher) -> Vec<String> {
    let vocab = matcher.compiler.trie().vocab_size();
    let mut candidates = Candidates::default();
    candidates.load(&vec![0.0; vocab]);
    matcher.mask(&mut candidates).unwrap();
    let name = |matcher: &Matcher, id| match matcher.compiler.trie().token(id) {
        [] => "end".to_owned(),
        piece => String::from_utf8_lossy(piece).into_owned(),
    };
    let mut names = Vec::new();
    for candidate in &candidates.items {
        let possible = matcher.allows(TokenId(candidate.id)).unwrap();
        assert_eq!(candidate.logit == 0.0, possible, "{}", name(matcher, candidate.id));
        if possible {
            names.push(name(matcher, candidate.id));
        }
    }
    names
}

#[test]
fn gbnf_means_what_it_means_in_the_reference() {
    // Each: grammar, texts in its language, texts not in it. The first half is regular, the second recursive.
    let cases: [(&str, &[&str], &[&str]); 18] = [
        ("root ::= \"a\"? \"\" []", &["", "a"], &["aa", "b"]),
        ("root ::= [a-z]* \"abc\"", &["abc", "abcabc", "xabc"], &["ab", "abcx"]),
        (
            "root ::= x{2} y{1,} z{0,2}\nx ::= \"x\"\ny ::= \"y\"\nz ::= \"z\"",
            &["xxy", "xxyyyzz"],
            &["xy", "xxyzzz"],
        ),
        ("root ::= \"n\"{0} \"m\"{1,1}", &["m"], &["", "nm"]),
        (
            "root ::= ( \"yes\" | \"no\" |\n # perhaps\n \"may\" \"be\" ) \".\"",
            &["yes.", "maybe."],
            &["yes", "may."],
        ),
        ("root ::= [^\\n\"\\]é-] .", &["a\n", "ü\u{1f600}"], &["\na", "éa", "-a", "]a"]),
        (
            "root ::= \"\\x41\\u00e9\\U0001F600\\t\\\\\\\"\" [\\]\\-x-]",
            &["Aé😀\t\\\"]", "Aé😀\t\\\"-"],
            &["Aé😀\t\\\"y"],
        ),
        ("root ::= \"a\" \r\n\r\n# comment\nroot ::= \"b\"", &["b"], &["a"]),
        ("root ::= ([0-9]+ (\",\" | \";\"))* [ぁ-ゟ]", &["あ", "1,23;ん"], &["1,2あ", "ア"]),
        ("root ::= \"(\" root \")\" | [a-z]* \"abc\"", &["abc", "((abcabc))"], &["((abc)", "()"]),
        ("root ::= (root \"x\")?", &["", "xxx"], &["y"]),
        ("root ::= ws \"x\" ws root?\nws ::= ([ \\t\\n] ws)?", &["x", " x \n\tx"], &[" ", "x y"]),
        (
            "root ::= a | b\na ::= [a-c] | [a-c] a\nb ::= \"ab\" \"!\" | \"(\" b \")\"",
            &["ab", "ab!", "(ab!)"],
            &["a!"],
        ),
        ("root ::= \"<\" root? \">\" (\"-\" root){0,2}", &["<>", "<<>>-<>"], &["<>-", "<"]),
        ("root ::= [^()] root | \"(\" root \")\" | \"\"", &["", "é(ü)", "((x))"], &["(", ")", "()x"]),
        ("root ::= pair\npair ::= \"é\" pair \"ê\" | .", &["x", "é\u{a0}ê", "ééêêê"], &["éêêê", "éê"]),
        ("root-1 ::= \"1\"\nroot ::= Root2 root-1 root?\nRoot2 ::= \"2\"", &["21", "2121"], &["2", "12"]),
        ("root ::= \"a\" root \"b\" | \"a\" \"b\" ", &["ab", "aaabbb"], &["aab", "abb"]),
    ];
    for (source, inside, outside) in cases {
        let check = |text: &str| admits(&mut gbnf(source).unwrap(), text);
        for text in inside {
            assert!(check(text), "{source:?} refuses {text:?}");
        }
        for text in outside {
            assert!(!check(text), "{source:?} admits {text:?}");
        }
    }
}

#[test]
fn the_mask_is_over_tokens_not_characters() {
    let mut matcher = gbnf("root ::= [ab]+ \"c\"?").unwrap();
    assert_eq!(continuations(&mut matcher), ["a", "b", "abc", "ab", "abc"]);
    matcher.accept(TokenId(u32::from(b'a')));
    assert_eq!(continuations(&mut matcher), ["a", "b", "c", "abc", "ab", "abc", "end", "end"]);
    matcher.accept(TokenId(u32::from(b'c')));
    assert_eq!(continuations(&mut matcher), ["end", "end"]);
}

#[test]
fn a_character_may_be_spread_over_tokens() {
    let mut matcher = gbnf("root ::= \"(\" root \")\" | [é-ê] \"!\"").unwrap();
    assert_eq!(continuations(&mut matcher), ["(", "\u{fffd}", "é!"]);
    matcher.accept(TokenId(0xc3));
    assert_eq!(continuations(&mut matcher).len(), 2);
}

#[test]
fn a_grammar_that_is_left_stays_left() {
    let mut matcher = gbnf("root ::= \"a\"+").unwrap();
    matcher.accept(TokenId(u32::from(b'b')));
    assert!(matches!(matcher.allows(TokenId(u32::from(b'a'))), Err(EngineError::Invalid(_))));
}

#[test]
fn bad_grammars_are_refused_with_the_place() {
    let deep_groups = format!("root ::= {}\"a\"{}", "(".repeat(1000), ")".repeat(1000));
    let deep_rules: String =
        (0..5000).map(|rule| format!("r{rule} ::= \"a\" r{} | \"b\" root\n", rule + 1)).collect();
    let cases = [
        ("", "there is no rule named root"),
        ("start ::= \"a\"", "there is no rule named root"),
        ("root ::= \"a\"\nroot = \"b\"", "line 2: expected ':', found '='"),
        ("root ::= x", "the rule x is not defined"),
        ("root ::= \"a", "unexpected end of the grammar"),
        ("root ::= [a", "unexpected end of the grammar"),
        ("root ::= (\"a\"", "expected ')', found the end"),
        ("root ::= \"a\" )", "expected the end of the line, found ')'"),
        ("root ::= \"\\q\"", "unknown escape \\q"),
        ("root ::= \"\\ud800\"", "0xd800 is not a character"),
        ("root ::= \"\\u00g\"", "expected 4 hexadecimal digits"),
        ("root ::= * \"a\"", "expected something to repeat before '*'"),
        ("root ::= \"a\"{2001}", "more than 2000 repetitions"),
        ("root ::= \"a\"{3,2}", "at least 3 repetitions cannot be fewer"),
        ("root ::= \"a\"{x}", "expected a number of repetitions"),
        ("root ::= [z-a]", "the range from 'z' to 'a' is empty"),
        ("root ::= <think>", "token references are not supported"),
        (deep_groups.as_str(), "more than 64 groups inside each other"),
        (&format!("root ::= \"a\"{}", "*".repeat(100_000)), "more than 64 operators in a row"),
        (&format!("{deep_rules}r5000 ::= \"c\"\nroot ::= r0"), "rules and groups are nested too deeply"),
    ];
    for (source, expected) in cases {
        let error = gbnf(source).unwrap_err().to_string();
        assert!(error.starts_with("Failed to initialize samplers: failed to parse grammar: "), "{error}");
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn the_deepest_grammar_fits_the_stack_of_a_thread() {
    // Rule, sequence, repetition and sequence for each level.
    let levels = 61;
    let rules: String =
        (0..levels).map(|rule| format!("r{rule} ::= \"a\" (\"b\" r{})?\n", rule + 1)).collect();
    let text = "ab".repeat(levels) + "z";
    for root in ["r0", "r0 | \"(\" root \")\""] {
        let source = format!("root ::= {root}\n{rules}r{levels} ::= \"z\"");
        assert!(admits(&mut gbnf(&source).unwrap(), &text), "{root}");
    }
}

#[test]
fn schemas_mean_what_they_mean_in_the_reference() {
    let person = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name"]}"#;
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            person,
            &[r#"{"name":"x"}"#, r#"{ "name" : "é\n" , "age": 3 }"#, "{\n\n  \"name\": \"\"\n}"],
            &[
                r#"{"age":3}"#,
                r#"{"name":"x","other":1}"#,
                r#"{"name":"x","age":"3"}"#,
                "{\n\n\n\"name\":\"\"}",
            ],
        ),
        ("{}", &[r#"{"any":[1,null]}"#, "{}"], &["1", "[]"]),
        (
            r#"{"type":"array","items":{"enum":["a",1]},"maxItems":2}"#,
            &["[]", r#"["a",1]"#],
            &[r#"["b"]"#, "[1,1,1]"],
        ),
        (r#"{"const":{"k":true}}"#, &[r#"{"k":true}"#], &[r#"{"k":false}"#]),
        (
            r#"{"anyOf":[{"properties":{"a":{"type":"null"}},"required":["a"]},{"type":"boolean"}]}"#,
            &[r#"{"a":null}"#, "true"],
            &[r#"{"b":null}"#, "null"],
        ),
        (
            r##"{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}"##,
            &["{}", r#"{"next":{"next":{}}}"#],
            &[r#"{"next":1}"#, r#"{"prev":{}}"#],
        ),
        (
            r#"{"type":"object","properties":{"a":{}},"additionalProperties":{"type":"integer"}}"#,
            &[r#"{"b":1}"#],
            &[r#"{"b":"x"}"#],
        ),
    ];
    for (source, inside, outside) in cases {
        let check = |text: &str| admits(&mut json(source).unwrap(), text);
        for text in inside {
            assert!(check(text), "{source} refuses {text:?}");
        }
        for text in outside {
            assert!(!check(text), "{source} admits {text:?}");
        }
    }
}

#[test]
fn bad_schemas_are_refused() {
    for source in [
        "{",
        "true",
        r#"{"type":"nonsense"}"#,
        r##"{"$ref":"#/$defs/none"}"##,
        r#"{"type":"string","pattern":"("}"#,
    ] {
        let error = json(source).unwrap_err().to_string();
        assert!(error.starts_with("\"json_schema\": "), "{error}");
    }
}
