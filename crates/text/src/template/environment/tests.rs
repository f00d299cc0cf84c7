//! What templates may count on.

use serde_json::{Map, Value, json};

use super::{NOW, render, with_template};
use crate::TextError;

fn rendered(source: &str, variables: Value) -> Result<String, TextError> {
    let Value::Object(variables) = variables else { panic!("variables are an object") };
    render(&with_template(source)?, &variables)
}

fn text(source: &str) -> String {
    let variables = json!({
        "list": [1, "two", null, true, { "k": 0.5 }],
        "tool": { "name": "f", "args": { "b": [1, 2], "a": "é<'\"" } },
        "empty": {},
    });
    rendered(source, variables).unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn blocks_leave_no_blank_lines() {
    assert_eq!(text("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc\n");
    assert_eq!(text("a {%- if true -%}  b  {%- endif %}"), "ab");
    assert_eq!(text("{{ 'x' }}\ny"), "x\ny");
}

#[test]
fn values_print_as_in_python() {
    assert_eq!(text("{{ true }} {{ none }} {{ list }}"), "True None [1, 'two', None, True, {'k': 0.5}]");
    assert_eq!(text("{{ tool.args }}"), r#"{'b': [1, 2], 'a': 'é<\'"'}"#);
    assert_eq!(text("{{ 'x' ~ (true | string) }} {{ missing }}{{ missing.deeper }}"), "xTrue ");
    assert_eq!(text(r#"{{ ["it's", 'a"b', "\n"] }}"#), r#"["it's", 'a"b', '\n']"#);
}

#[test]
fn json_is_written_as_python_writes_it() {
    assert_eq!(text("{{ tool | tojson }}"), r#"{"name": "f", "args": {"b": [1, 2], "a": "é<'\""}}"#);
    assert_eq!(text("{{ empty | tojson }} {{ [] | tojson }}"), "{} []");
    assert_eq!(text("{{ tool.args | tojson(sort_keys=true) }}"), r#"{"a": "é<'\"", "b": [1, 2]}"#);
    assert_eq!(text("{{ tool.args.a | tojson(ensure_ascii=true) }}"), r#""\u00e9<'\"""#);
    assert_eq!(text("{{ '😀' | tojson(ensure_ascii=true) }}"), r#""\ud83d\ude00""#);
    assert_eq!(text("{{ tool.args.b | tojson(separators=(',', ':')) }}"), "[1,2]");
    assert_eq!(
        text("{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}"),
        "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"
    );
}

#[test]
fn python_methods_and_loops_work() {
    assert_eq!(text("{{ ' x '.strip() }}{{ 'a,b'.split(',')[-1] }}{{ 'ab'.startswith('a') }}"), "xbTrue");
    assert_eq!(text("{% for k, v in tool.args.items() %}{{ k }}{% endfor %}{{ tool.get('no', 1) }}"), "ba1");
    let namespace =
        "{% set ns = namespace(n=0) %}{% for x in list %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}";
    assert_eq!(text(namespace), "5");
    assert_eq!(text("{% for x in [1, 1, 2] %}{{ loop.previtem == x }},{% endfor %}"), "False,True,False,");
    assert_eq!(
        text("{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}"),
        "13"
    );
    assert_eq!(text("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) }}{{ [3, 4][::-1] }}"), "<1>[4, 3]");
}

#[test]
fn generation_tags_mark_and_nothing_else() {
    assert_eq!(text("a {%- generation -%} b {%- endgeneration -%} c"), "abc");
    assert_eq!(
        text("{% set generation = 1 %}{{ generation }}\n{% generation %}\nx{% endgeneration %}\ny"),
        "1\nxy"
    );
}

#[test]
fn the_time_is_the_hosts() {
    let mut variables = Map::new();
    variables.insert(NOW.to_owned(), 1_721_952_000.into());
    let environment =
        with_template("{{ strftime_now('%d %b %Y') }} {{ strftime_now('%H:%M') }}").expect("valid");
    assert_eq!(render(&environment, &variables).expect("rendered"), "26 Jul 2024 00:00");
    let environment = with_template("{{ strftime_now('%Q') }}").expect("valid");
    assert!(render(&environment, &variables).is_err(), "a format that does not exist");
}

#[test]
fn refusals_carry_the_reason() {
    let error =
        rendered("{{ raise_exception('Only user and assistant roles') }}", json!({})).expect_err("refused");
    assert!(
        matches!(&error, TextError::Template(reason) if reason.contains("Only user and assistant roles")),
        "{error}"
    );
    assert!(rendered("{% if %}", json!({})).is_err());
    assert!(rendered("{{ 1 | no_such_filter }}", json!({})).is_err());
}

#[test]
fn a_template_without_an_end_is_stopped() {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}";
    assert!(rendered(endless, json!({})).is_err());
    let recursive = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(rendered(recursive, json!({})).is_err());
}
