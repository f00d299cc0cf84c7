{% for i in range(8) %}
            {
{% set half = "low" if i < 4 else "high" %}
{% set xy = "x" if i < 4 else "y" %}
{% for k in range(columns) %}
{% if quantised %}
                let v_{{ k }} = dequantised(w_{{ k }}.{{ half }}[{{ i % 4 }}], w_{{ k }}.zero, w_{{ k }}.scale.{{ xy }}, w_{{ k }}.minimum.{{ xy }});
{% else %}
                let v_{{ k }} = load_quad({{ k // per ~ "u" if gate else "which" }}, row_{{ k }}, group, {{ i }}u);
{% endif %}
{% endfor %}
{% for m in range(rows) %}
                let a_{{ m }} = staged[{{ m * 64 + i * 8 }}u + lane];
{% for k in range(columns) %}
                sum_{{ m }}_{{ k }} += dot(a_{{ m }}, v_{{ k }});
{% endfor %}
{% endfor %}
            }
{% endfor %}
