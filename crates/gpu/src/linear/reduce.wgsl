{% if norm is not none %}
    // Lane l takes squares 8 l to 8 l + 7 of each row; from here on they are one more sum.
{% for s in range(slots) %}
    squares[t + {{ s * threads }}u] = square_{{ s }};
{% endfor %}
    workgroupBarrier();
{% for m in range(rows) %}
    var sum_{{ m }}_{{ columns }} = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum_{{ m }}_{{ columns }} += squares[{{ m * 64 }}u + 8u * lane + i];
    }
{% endfor %}
{% endif %}
{% set sums = columns + (1 if norm is not none else 0) %}
{% for m in range(rows) %}
{% for k in range(sums) %}
{% for step in [1, 2, 4] if step < subgroup %}
    sum_{{ m }}_{{ k }} += subgroupShuffleXor(sum_{{ m }}_{{ k }}, {{ step }}u);
{% endfor %}
{% endfor %}
{% endfor %}
{% set square = "sum_M_" ~ columns if norm is not none else "0.0" %}
{% if subgroup >= 8 %}
    // Every lane has the totals; lane l writes row l.
{% for m in range(rows) %}
    if lane == {{ m }}u {
{% for c in range(per) %}
        finish(which, first_row + {{ m }}u, output_{{ c }}, array(
            sum_{{ m }}_{{ c }}{% if gate %}, sum_{{ m }}_{{ c + per }}{% endif %}

        ), {{ square | replace("M", m | string) }});
{% endfor %}
    }
{% endfor %}
{% else %}
{% for m in range(rows) %}
{% for k in range(sums) %}
    partials[{{ k * threads }}u + t] = sum_{{ m }}_{{ k }};
{% endfor %}
    workgroupBarrier();
    if t < {{ places * per }}u {
        let at = 8u * t;
        finish(which, first_row + {{ m }}u, first_output + t, array(
            total(at){% if gate %}, total({{ per * threads }}u + at){% endif %}

        ), {% if norm is not none %}total({{ columns * threads }}u + 8u * (t % {{ places }}u)){% else %}0.0{% endif %});
    }
    workgroupBarrier();
{% endfor %}
{% endif %}
