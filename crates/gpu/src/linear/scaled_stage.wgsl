        // Each group of 32 is scaled by its own largest magnitude, whatever the size of the activations.
{% for s in range(slots) %}
        let magnitude_{{ s }} = abs(value_{{ s }});
        peaks[t + {{ s * threads }}u] =
            max(max(magnitude_{{ s }}.x, magnitude_{{ s }}.y), max(magnitude_{{ s }}.z, magnitude_{{ s }}.w));
{% endfor %}
        workgroupBarrier();
{% for s in range(slots) %}
        {
            let first = t / 8u * 8u + {{ s * threads }}u;
            var peak = peaks[first];
{% for i in range(1, 8) %}
            peak = max(peak, peaks[first + {{ i }}u]);
{% endfor %}
            let largest = {{ "127.0" if mode == "i8" else "1.0" }};
            let scaled = value_{{ s }} * select(0.0, largest / peak, peak > 1e-30);
{% if mode == "i8" %}
            let q = bitcast<vec4<u32>>(vec4<i32>(round(scaled))) & vec4(255u);
            staged[slot + {{ s * threads }}u] = q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
{% else %}
            staged[slot + {{ s * threads }}u] = vec4<f16>(scaled);
{% endif %}
            if quad % 8u == 0u {
                scales[(t + {{ s * threads }}u) / 8u] = peak / largest;
            }
        }
{% endfor %}
