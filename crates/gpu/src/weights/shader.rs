//! Composing the WGSL that reads weights.

use half::{bf16, f16};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use reprise_gguf::GgmlDType;

/// Whether a row holds blocks of integers, read by `group_<n>`; else floats, read by `quad_<n>`.
pub(crate) fn is_quantised(dtype: GgmlDType) -> bool {
    dtype.block_size() > 1
}

/// What every snippet of [`access`] and [`values`] needs before it, once a module.
pub(crate) fn common() -> &'static str {
    include_str!("common.wgsl")
}

/// WGSL functions that read rows of type `dtype` from `weight_<n>: array<vec4<u32>>`. `row` is where a row begins, in units
/// of 16 bytes; `groups` is how many groups of 32 elements a row has.
///
/// Integers: `group_<n>(row, groups, group) -> Group`; with `signed`, bytes that are signed stay so (and are then the only
/// ones with their upper bit set). Floats: `quad_<n>(row, group, quad) -> vec4<f32>`.
///
/// `None` for a type without a kernel.
pub(crate) fn access(dtype: GgmlDType, n: &str, signed: bool) -> Option<String> {
    let body = match dtype {
        GgmlDType::F32 => include_str!("f32.wgsl"),
        GgmlDType::F16 => include_str!("f16.wgsl"),
        GgmlDType::BF16 => include_str!("bf16.wgsl"),
        GgmlDType::Q4_0 => include_str!("q4_0.wgsl"),
        GgmlDType::Q4_1 => include_str!("q4_1.wgsl"),
        GgmlDType::Q5_0 => include_str!("q5_0.wgsl"),
        GgmlDType::Q5_1 => include_str!("q5_1.wgsl"),
        GgmlDType::Q8_0 => include_str!("q8_0.wgsl"),
        GgmlDType::Q2K => include_str!("q2_k.wgsl"),
        GgmlDType::Q3K => include_str!("q3_k.wgsl"),
        GgmlDType::Q4K => include_str!("q4_k.wgsl"),
        GgmlDType::Q5K => include_str!("q5_k.wgsl"),
        GgmlDType::Q6K => include_str!("q6_k.wgsl"),
        GgmlDType::Q8_1 | GgmlDType::Q8K => return None,
    };
    let context = context! { n, signed };
    Some(render(include_str!("access.wgsl"), &[], &context) + &render(body, &[], &context))
}

/// [`access`], and `values_<n>(row, groups, group) -> array<vec4<f32>, 8>`: the 32 values of a group. Past the end of a row of
/// floats they are whatever follows.
pub(crate) fn values(dtype: GgmlDType, n: &str) -> Option<String> {
    let context = context! { n, quantised => is_quantised(dtype) };
    Some(access(dtype, n, false)? + &render(include_str!("values.wgsl"), &[], &context))
}

/// Fills a template of this crate in; it may include `parts` by their names.
pub(crate) fn render(template: &str, parts: &[(&str, &str)], context: &Value) -> String {
    fill(template, parts, context).unwrap_or_else(|error| {
        // Templates are part of the program, so this is a mistake in it, which the compiler's message shows.
        format!("// template: {error:#}\nnot WGSL\n")
    })
}

fn fill(template: &str, parts: &[(&str, &str)], context: &Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?,
    );
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for &(name, source) in parts {
        environment.add_template_owned(name.to_owned(), source.to_owned())?;
    }
    environment.render_str(template, context)
}

/// The elements of a row of floats; `None` for integers.
pub(super) fn floats(dtype: GgmlDType, bytes: &[u8]) -> Option<Vec<f32>> {
    let pair = |pair: &[u8]| [pair[0], pair[1]];
    match dtype {
        GgmlDType::F32 => {
            Some(bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect())
        }
        GgmlDType::F16 => Some(bytes.chunks_exact(2).map(|x| f16::from_le_bytes(pair(x)).to_f32()).collect()),
        GgmlDType::BF16 => {
            Some(bytes.chunks_exact(2).map(|x| bf16::from_le_bytes(pair(x)).to_f32()).collect())
        }
        _ => None,
    }
}
