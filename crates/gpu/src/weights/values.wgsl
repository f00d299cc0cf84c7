// The 32 values of a group.
fn values_{{ n }}(row: u32, groups: u32, group: u32) -> array<vec4<f32>, 8> {
{% if quantised %}
    let g = group_{{ n }}(row, groups, group);
    return array<vec4<f32>, 8>(
{% for i in range(4) %}
        dequantised(g.low[{{ i }}], g.zero, g.scale.x, g.minimum.x),
{% endfor %}
{% for i in range(4) %}
        dequantised(g.high[{{ i }}], g.zero, g.scale.y, g.minimum.y),
{% endfor %}
    );
{% else %}
    return array<vec4<f32>, 8>(
{% for i in range(8) %}
        quad_{{ n }}(row, group, {{ i }}u),
{% endfor %}
    );
{% endif %}
}
