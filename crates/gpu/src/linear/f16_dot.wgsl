{% for half in ["low", "high"] %}
{% set xy = "xy"[loop.index0] %}
            {
{% for m in range(rows) %}
                var ones_{{ m }} = 0.0;
{% for k in range(columns) %}
                var dot_{{ m }}_{{ k }} = 0.0h;
{% endfor %}
{% endfor %}
{% for i in range(4) %}
                {
{% for k in range(columns) %}
                    let v_{{ k }} = vec4<f16>(bytes(w_{{ k }}.{{ half }}[{{ i }}])) - f16(w_{{ k }}.zero);
{% endfor %}
{% for m in range(rows) %}
                    let a_{{ m }} = staged[{{ m * 64 + i * 8 + (32 if half == "high" else 0) }}u + lane];
                    ones_{{ m }} += dot(vec4<f32>(a_{{ m }}), vec4(1.0));
{% for k in range(columns) %}
                    dot_{{ m }}_{{ k }} += dot(a_{{ m }}, v_{{ k }});
{% endfor %}
{% endfor %}
                }
{% endfor %}
{% for m in range(rows) %}
                let scale_{{ m }} = scales[{{ m * 8 }}u + lane];
{% for k in range(columns) %}
                sum_{{ m }}_{{ k }} += scale_{{ m }}
                    * (w_{{ k }}.scale.{{ xy }} * f32(dot_{{ m }}_{{ k }}) + w_{{ k }}.minimum.{{ xy }} * ones_{{ m }});
{% endfor %}
{% endfor %}
            }
{% endfor %}
