//! The quantisation of a file in llama.cpp's words.

use std::collections::HashMap;

use reprise_gguf::{GgmlDType, Gguf};

use crate::ModelError;

/// The name of `general.file_type`, or one guessed from the type that most tensors have.
///
/// # Errors
/// [`ModelError`] when the key is not a number.
pub(crate) fn file_type(gguf: &Gguf) -> Result<String, ModelError> {
    if let Some(number) = gguf.metadata.opt_u32("general.file_type")? {
        return Ok(name(number).to_owned());
    }
    let mut counts: HashMap<GgmlDType, usize> = HashMap::new();
    let mut most = (GgmlDType::F32, 0);
    for tensor in gguf.tensors() {
        let count = counts.entry(tensor.dtype).or_default();
        *count += 1;
        if *count > most.1 {
            most = (tensor.dtype, *count);
        }
    }
    Ok(format!("(guessed) {}", name(guess(most.0))))
}

/// The file type whose tensors are mostly of this type.
fn guess(dtype: GgmlDType) -> u32 {
    match dtype {
        GgmlDType::F32 | GgmlDType::Q8_1 | GgmlDType::Q8K => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q8_0 => 7,
        GgmlDType::Q5_0 => 8,
        GgmlDType::Q5_1 => 9,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 12,
        GgmlDType::Q4K => 15,
        GgmlDType::Q5K => 17,
        GgmlDType::Q6K => 18,
        GgmlDType::BF16 => 32,
    }
}

/// Names of `enum llama_ftype`.
fn name(number: u32) -> &'static str {
    match number {
        0 => "all F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K - Medium",
        11 => "Q3_K - Small",
        12 => "Q3_K - Medium",
        13 => "Q3_K - Large",
        14 => "Q4_K - Small",
        15 => "Q4_K - Medium",
        16 => "Q5_K - Small",
        17 => "Q5_K - Medium",
        18 => "Q6_K",
        19 => "IQ2_XXS - 2.0625 bpw",
        20 => "IQ2_XS - 2.3125 bpw",
        21 => "Q2_K - Small",
        22 => "IQ3_XS - 3.3 bpw",
        23 => "IQ3_XXS - 3.0625 bpw",
        24 => "IQ1_S - 1.5625 bpw",
        25 => "IQ4_NL - 4.5 bpw",
        26 => "IQ3_S - 3.4375 bpw",
        27 => "IQ3_S mix - 3.66 bpw",
        28 => "IQ2_S - 2.5 bpw",
        29 => "IQ2_M - 2.7 bpw",
        30 => "IQ4_XS - 4.25 bpw",
        31 => "IQ1_M - 1.75 bpw",
        32 => "BF16",
        36 => "TQ1_0 - 1.69 bpw ternary",
        37 => "TQ2_0 - 2.06 bpw ternary",
        38 => "MXFP4 MoE",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => "unknown, may not work",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_has_a_name_of_its_type() {
        for (dtype, wanted) in
            [(GgmlDType::Q4K, "Q4_K - Medium"), (GgmlDType::BF16, "BF16"), (GgmlDType::Q4_1, "Q4_1")]
        {
            assert_eq!(name(guess(dtype)), wanted);
        }
    }
}
