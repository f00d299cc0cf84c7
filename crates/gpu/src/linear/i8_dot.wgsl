{% for m in range(rows) %}
            {
                let scale = scales[{{ m * 8 }}u + lane];
{% for i in range(8) %}
                let a_{{ i }} = staged[{{ m * 64 + i * 8 }}u + lane];
{% endfor %}
                // Sums of the activations: what zero points and minimums are multiplied by.
                let ones = 0x01010101u;
{% for half in ["low", "high"] %}
{% set at = 4 * loop.index0 %}
                let {{ half }} = dot4I8Packed(a_{{ at }}, ones) + dot4I8Packed(a_{{ at + 1 }}, ones)
                    + dot4I8Packed(a_{{ at + 2 }}, ones) + dot4I8Packed(a_{{ at + 3 }}, ones);
{% endfor %}
{% for k in range(columns) %}
                {
                    let zero = i32(w_{{ k }}.zero);
{% for half in ["low", "high"] %}
{% set at = 4 * loop.index0 %}
                    let w_{{ half }} = dot4I8Packed(a_{{ at }}, w_{{ k }}.{{ half }}.x)
                        + dot4I8Packed(a_{{ at + 1 }}, w_{{ k }}.{{ half }}.y)
                        + dot4I8Packed(a_{{ at + 2 }}, w_{{ k }}.{{ half }}.z)
                        + dot4I8Packed(a_{{ at + 3 }}, w_{{ k }}.{{ half }}.w) - zero * {{ half }};
{% endfor %}
                    let products = w_{{ k }}.scale * vec2(f32(w_low), f32(w_high));
                    let offsets = w_{{ k }}.minimum * vec2(f32(low), f32(high));
                    let both = products + offsets;
                    sum_{{ m }}_{{ k }} += scale * (both.x + both.y);
                }
{% endfor %}
            }
{% endfor %}
