//! The model files that are measured: those of the tests, requantised ones, random ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{process, setup};

/// Quantisations that are made of the default model, besides the one it comes in.
const QUANTISATIONS: [&str; 6] = ["q4_0", "q5_0", "q5_1", "q8_0", "f16", "bf16"];
/// Those of the large file with random weights; the rows of the default model are too short for them.
const RANDOM: [&str; 3] = ["q4_k_m", "q5_k_m", "q6_k"];

/// The model files, made where they are missing: those whose name contains one of `only`, or all.
pub(super) fn all(only: &[String]) -> Result<Vec<PathBuf>> {
    let mut models = trained(only)?;
    let folder = folder()?;
    for types in RANDOM {
        let target = folder.join(format!("Random-1B-{types}.gguf"));
        if wanted(&target, only) {
            made("random", &setup::default_model()?, types, &target)?;
            models.push(target);
        }
    }
    Ok(models)
}

/// Those that answer with more than noise.
pub(in crate::bench) fn trained(only: &[String]) -> Result<Vec<PathBuf>> {
    let folder = folder()?;
    let source = setup::default_model()?;
    let mut models = vec![source.clone()];
    for quantisation in QUANTISATIONS {
        let target = folder.join(format!("SmolLM2-135M-{quantisation}.gguf"));
        if wanted(&target, only) {
            made("quantize", &source, quantisation, &target)?;
        }
        models.push(target);
    }
    models.push(setup::models()?.join("gemma-3-270m-Q4_K_M.gguf"));
    models.retain(|model| wanted(model, only));
    Ok(models)
}

/// A file's name without its extension.
pub(in crate::bench) fn name(model: &Path) -> String {
    model.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn wanted(model: &Path, only: &[String]) -> bool {
    let name = name(model).to_lowercase();
    only.is_empty() || only.iter().any(|part| name.contains(&part.to_lowercase()))
}

/// Where files are kept that the benchmark makes.
pub(in crate::bench) fn folder() -> Result<PathBuf> {
    let folder = setup::cache_folder()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    Ok(folder)
}

fn made(example: &str, source: &Path, types: &str, target: &Path) -> Result<()> {
    if target.exists() { Ok(()) } else { make(example, source, types, target) }
}

/// Writes a model file by one of the examples of `reprise-gguf`.
pub(in crate::bench) fn make(example: &str, source: &Path, types: &str, target: &Path) -> Result<()> {
    let run = ["run", "--release", "--locked", "-p", "reprise-gguf", "--example", example, "--"];
    // A file that was not finished must not be taken for one.
    let partial = target.with_extension("partial");
    process::run(process::cargo(run).arg(source).arg(types).arg(&partial))?;
    std::fs::rename(&partial, target).with_context(|| format!("cannot write '{}'", target.display()))
}
