//! The sampling fields of a request.

use reprise_engine::sample::{DryParams, Grammar, Mirostat, SamplerKind, Sampling};
use reprise_text::Tokenizer;
use serde_json::{Map, Value, json};

use super::bias;
use super::field::{ANY_REAL, Fields, NATURAL, boolean, float, integer, string, strings, type_error};
use crate::ApiError;

/// Reads the sampling fields over the defaults.
///
/// # Errors
/// [`ApiError::Invalid`] that names the field.
pub(crate) fn parse(
    fields: Fields<'_>,
    base: &Sampling,
    tokenizer: &Tokenizer,
) -> Result<Sampling, ApiError> {
    const UNIT: (f32, f32) = (0.0, 1.0);
    // The adaptive-p sampler is not offered; its fields are still checked.
    let _ = fields.real("adaptive_target", (f32::MIN, 1.0), -1.0)?;
    fields.read(&["adaptive_decay"], adaptive_decay)?;
    let (seed, logit_bias) = (seed(fields, base)?, logit_bias(fields, base, tokenizer));
    Ok(Sampling {
        top_k: fields.clamped(&["top_k"], (0, i32::MAX), base.top_k)?,
        top_p: fields.real("top_p", UNIT, base.top_p)?,
        min_p: fields.real("min_p", UNIT, base.min_p)?,
        top_n_sigma: fields.real("top_n_sigma", ANY_REAL, base.top_n_sigma)?,
        xtc_probability: fields.real("xtc_probability", UNIT, base.xtc_probability)?,
        xtc_threshold: fields.real("xtc_threshold", UNIT, base.xtc_threshold)?,
        typical_p: fields.real("typical_p", ANY_REAL, base.typical_p)?,
        temperature: fields.real("temperature", (0.0, f32::MAX), base.temperature)?,
        dynatemp_range: fields.real("dynatemp_range", ANY_REAL, base.dynatemp_range)?,
        dynatemp_exponent: fields.real("dynatemp_exponent", ANY_REAL, base.dynatemp_exponent)?,
        repeat_last_n: fields.whole(&["repeat_last_n"], NATURAL, base.repeat_last_n)?,
        repeat_penalty: fields.real("repeat_penalty", ANY_REAL, base.repeat_penalty)?,
        frequency_penalty: fields.real("frequency_penalty", ANY_REAL, base.frequency_penalty)?,
        presence_penalty: fields.real("presence_penalty", ANY_REAL, base.presence_penalty)?,
        dry: dry(fields, &base.dry)?,
        mirostat: Mirostat {
            version: fields.clamped(&["mirostat"], (0, 2), base.mirostat.version.into())? as u8,
            tau: fields.real("mirostat_tau", ANY_REAL, base.mirostat.tau)?,
            eta: fields.real("mirostat_eta", ANY_REAL, base.mirostat.eta)?,
        },
        seed,
        min_keep: fields.whole(&["min_keep"], NATURAL, base.min_keep)?,
        grammar: grammar(fields)?.or_else(|| base.grammar.clone()),
        logit_bias,
        samplers: fields.read(&["samplers"], samplers)?.flatten().unwrap_or_else(|| base.samplers.clone()),
    })
}

/// The seed is any number, cut to 32 bits: -1 asks for a random one.
fn seed(fields: Fields<'_>, base: &Sampling) -> Result<u32, ApiError> {
    Ok(fields.read(&["seed"], integer)?.map_or(base.seed, |seed| seed as u32))
}

fn logit_bias(
    fields: Fields<'_>,
    base: &Sampling,
    tokenizer: &Tokenizer,
) -> Vec<(reprise_gguf::TokenId, f32)> {
    let asked = fields.find(&["logit_bias"]).map(|(_, value)| bias::parse(value, tokenizer));
    asked.unwrap_or_else(|| base.logit_bias.clone())
}

fn dry(fields: Fields<'_>, base: &DryParams) -> Result<DryParams, ApiError> {
    const BREAKERS: &str = "Error: dry_sequence_breakers must be a non-empty array of strings";
    let asked_base = fields.read(&["dry_base"], float)?.filter(|value| *value >= 1.0);
    let breakers = fields.read(&["dry_sequence_breakers"], |value| {
        let breakers = strings(value).unwrap_or_default();
        if breakers.is_empty() { Err(BREAKERS.to_owned()) } else { Ok(breakers) }
    })?;
    Ok(DryParams {
        multiplier: fields.real("dry_multiplier", ANY_REAL, base.multiplier)?,
        base: asked_base.unwrap_or(base.base),
        allowed_length: fields.whole(&["dry_allowed_length"], NATURAL, base.allowed_length)?,
        penalty_last_n: fields.whole(&["dry_penalty_last_n"], NATURAL, base.penalty_last_n)?,
        sequence_breakers: breakers.unwrap_or_else(|| base.sequence_breakers.clone()),
    })
}

fn adaptive_decay(value: &Value) -> Result<(), String> {
    let decay = float(value)?;
    if (0.0..=0.99).contains(&decay) {
        return Ok(());
    }
    Err(format!("Value must be between 0.000000 <= value <= 0.990000, but got {decay:.6}"))
}

/// `grammar` (GBNF) or `json_schema`; the grammar wins when both are there, as in the reference.
fn grammar(fields: Fields<'_>) -> Result<Option<Grammar>, ApiError> {
    if fields.lenient("grammar_lazy", boolean).unwrap_or(false) {
        return Err(ApiError::invalid(
            "Field 'grammar_lazy': lazy grammars are not supported by this server",
        ));
    }
    // The reference ignores a grammar of a wrong type; text that was to be constrained must not come unconstrained.
    let gbnf = fields.read(&["grammar"], string)?.filter(|grammar| !grammar.is_empty());
    if let Some(gbnf) = gbnf {
        return Ok(Some(Grammar::Gbnf(gbnf.to_owned())));
    }
    Ok(fields.read(&["json_schema"], schema)?.map(Grammar::JsonSchema))
}

/// A schema as text; the empty schema stands for any object.
fn schema(value: &Value) -> Result<String, String> {
    match value {
        Value::Object(fields) if fields.is_empty() => Ok(any_object().to_string()),
        Value::Object(_) => Ok(value.to_string()),
        _ => Err("\"json_schema\": JSON schema error at #: schema must be an object".to_owned()),
    }
}

/// The schema of any object.
pub(crate) fn any_object() -> Value {
    Value::Object(Map::from_iter([("type".to_owned(), json!("object"))]))
}

/// A chain as an array of names or as a string of letters; what names no sampler is left out.
fn samplers(value: &Value) -> Result<Option<Vec<SamplerKind>>, String> {
    let named = match value {
        Value::Array(items) => {
            let names: Result<Vec<_>, _> = items.iter().map(string).collect();
            names?.into_iter().map(sampler_by_name).collect::<Result<Vec<_>, _>>()?
        }
        Value::String(letters) => letters.chars().map(sampler_by_letter).collect::<Result<Vec<_>, _>>()?,
        _ => return Ok(None),
    };
    Ok(Some(named.into_iter().flatten().collect()))
}

/// The canonical name, or `top-k`, `topk`, `Top_K`, `nucleus`, ...
fn sampler_by_name(name: &str) -> Result<Option<SamplerKind>, String> {
    let plain: String = name.to_lowercase().chars().filter(|c| !matches!(c, '_' | '-')).collect();
    Ok(Some(match plain.as_str() {
        "penalties" => SamplerKind::Penalties,
        "dry" => SamplerKind::Dry,
        "topnsigma" => SamplerKind::TopNSigma,
        "topk" => SamplerKind::TopK,
        "typp" | "typ" => SamplerKind::TypicalP,
        "topp" | "nucleus" => SamplerKind::TopP,
        "minp" => SamplerKind::MinP,
        "xtc" => SamplerKind::Xtc,
        "temperature" | "temp" => SamplerKind::Temperature,
        "infill" | "adaptivep" => return Err(not_offered(name)),
        _ => return Ok(None),
    }))
}

fn sampler_by_letter(letter: char) -> Result<Option<SamplerKind>, String> {
    Ok(Some(match letter {
        'e' => SamplerKind::Penalties,
        'd' => SamplerKind::Dry,
        's' => SamplerKind::TopNSigma,
        'k' => SamplerKind::TopK,
        'y' => SamplerKind::TypicalP,
        'p' => SamplerKind::TopP,
        'm' => SamplerKind::MinP,
        'x' => SamplerKind::Xtc,
        't' => SamplerKind::Temperature,
        'i' => return Err(not_offered("infill")),
        'a' => return Err(not_offered("adaptive_p")),
        _ => return Ok(None),
    }))
}

fn not_offered(name: &str) -> String {
    format!("the sampler '{name}' is not supported by this server")
}

/// The canonical name of a sampler.
pub(crate) fn sampler_name(kind: SamplerKind) -> &'static str {
    match kind {
        SamplerKind::Penalties => "penalties",
        SamplerKind::Dry => "dry",
        SamplerKind::TopNSigma => "top_n_sigma",
        SamplerKind::TopK => "top_k",
        SamplerKind::TypicalP => "typ_p",
        SamplerKind::TopP => "top_p",
        SamplerKind::MinP => "min_p",
        SamplerKind::Xtc => "xtc",
        SamplerKind::Temperature => "temperature",
    }
}

/// Stop strings: one, or several; empty ones are left out.
pub(crate) fn stops(value: &Value) -> Result<Vec<String>, String> {
    let stops = match value {
        Value::String(stop) => vec![stop.clone()],
        // Null, [] and {} are empty in the reference's eyes and skipped before their type matters.
        Value::Array(items) => items
            .iter()
            .filter(|item| !item.is_null() && **item != json!([]) && **item != json!({}))
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| type_error("string", item)))
            .collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}
