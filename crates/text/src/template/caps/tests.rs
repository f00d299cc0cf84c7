//! Abilities read off small templates. What llama-server says of larger ones is in `tests/templates.rs`.

use super::Caps;

fn caps(source: &str) -> Caps {
    Caps::of(source).expect("valid")
}

#[test]
fn a_template_that_prints_content_knows_text_and_the_system_role() {
    let caps = caps("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}");
    assert!(caps.string_content && caps.system_role);
    assert!(!caps.typed_content && !caps.tools && !caps.tool_calls && !caps.parallel_tool_calls);
    assert!(!caps.object_arguments && !caps.preserve_reasoning && !caps.reasoning_effort);
}

#[test]
fn a_loop_over_content_knows_only_parts() {
    let caps = caps("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}");
    assert!(caps.typed_content && !caps.string_content);
}

#[test]
fn asking_for_the_kind_of_content_knows_both() {
    let source = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
                  {% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}";
    let caps = caps(source);
    assert!(caps.typed_content && caps.string_content);
}

#[test]
fn a_refused_role_is_no_role() {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}\
                  {{ m.content }}{% endfor %}";
    assert!(!caps(source).system_role);
}

#[test]
fn the_length_of_calls_is_not_a_look_at_the_second() {
    let source = "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | length }}\
                  {{ m.tool_calls[0].function.name }}{% endif %}{% endfor %}{{ tools | tojson }}";
    let caps = caps(source);
    assert!(caps.tools && caps.tool_calls && !caps.parallel_tool_calls && !caps.object_arguments);
}

#[test]
fn kept_reasoning_and_effort_are_seen() {
    let source = "{% for m in messages %}{{ m.content }}{% if preserve_thinking %}{{ m.reasoning_content }}\
                  {% endif %}{% endfor %}{{ reasoning_effort }}";
    let caps = caps(source);
    assert!(caps.preserve_reasoning && caps.reasoning_effort);
}
