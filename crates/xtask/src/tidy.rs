//! The architecture's rules, checked: arrows between crates, file sizes, module heads, where platform switches stand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{self, cargo};

/// Which of our crates a crate may depend on (`crates/README.md` draws it).
const ARROWS: &[(&str, &[&str])] = &[
    ("reprise-gguf", &[]),
    ("reprise-text", &["reprise-gguf"]),
    ("reprise-kv", &["reprise-gguf"]),
    ("reprise-compute", &["reprise-gguf"]),
    ("reprise-gpu", &["reprise-compute", "reprise-gguf"]),
    ("reprise-model", &["reprise-compute", "reprise-gguf"]),
    ("reprise-engine", &["reprise-gguf", "reprise-kv", "reprise-model", "reprise-text"]),
    ("reprise-api", &["reprise-engine", "reprise-gguf", "reprise-text"]),
    (
        "reprise-server",
        &[
            "reprise-api",
            "reprise-compute",
            "reprise-engine",
            "reprise-gguf",
            "reprise-kv",
            "reprise-model",
            "reprise-text",
        ],
    ),
    (
        "reprise-wasm",
        &[
            "reprise-api",
            "reprise-compute",
            "reprise-engine",
            "reprise-gguf",
            "reprise-gpu",
            "reprise-kv",
            "reprise-model",
            "reprise-text",
        ],
    ),
    ("reprise-xtask", &[]),
    ("conformance", &["reprise-gguf"]),
];

/// Libraries that stop at a door, and the crates that may know them.
const DOORS: &[(&str, &[&str])] = &[
    ("axum", &["reprise-api", "reprise-server", "reprise-wasm"]),
    ("minijinja", &["reprise-text", "reprise-gpu"]),
    ("tokenizers", &["reprise-text"]),
    ("candle-core", &["reprise-gguf", "reprise-compute", "conformance"]),
    ("memmap2", &["reprise-server", "reprise-compute"]),
    ("wgpu", &["reprise-gpu"]),
    ("idb", &["reprise-wasm"]),
    ("wasm-bindgen", &["reprise-wasm"]),
    ("web-sys", &["reprise-wasm", "reprise-gpu"]),
    ("clap", &["reprise-server", "reprise-xtask", "conformance"]),
];

/// Where `cfg(target_arch)` may stand: hosts and kernels, and the tests that run on both.
const PLATFORM_SWITCHES: &[&str] = &[
    "crates/server/",
    "crates/wasm/",
    "crates/xtask/",
    "crates/gpu/",
    "crates/compute/src/kernels/",
    "crates/compute/src/cpu/tests.rs",
];

/// Files that may be longer than [`LONGEST`], each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const LONGEST: usize = 600;
const P90: usize = 400;

/// Runs every check; names everything that is wrong, not only the first.
pub(crate) fn check() -> Result<()> {
    let mut faults = arrow_faults(&metadata()?)?;
    let files = rust_files()?;
    faults.extend(file_faults(&files));
    let sizes = sorted_sizes(&files);
    let p90 = sizes.get(sizes.len() * 9 / 10).copied().unwrap_or(0);
    if p90 > P90 {
        faults.push(format!("one file in ten has {p90} lines or more; the bound is {P90}"));
    }
    ensure!(faults.is_empty(), "the architecture is broken:\n  {}", faults.join("\n  "));
    println!(
        "tidy: {} crates keep their arrows; {} files, median {} lines, p90 {p90}, longest {}",
        ARROWS.len(),
        sizes.len(),
        sizes.get(sizes.len() / 2).copied().unwrap_or(0),
        sizes.last().copied().unwrap_or(0)
    );
    Ok(())
}

fn metadata() -> Result<Value> {
    let json = process::output(&mut cargo(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    serde_json::from_str(&json).context("cargo metadata is not JSON")
}

/// `(crate, dependency)` pairs that are drawn nowhere. Development dependencies are tests' business.
fn arrow_faults(metadata: &Value) -> Result<Vec<String>> {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let doors: BTreeMap<_, _> = DOORS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(ours) = allowed.get(name) else {
            bail!("crate '{name}' has no arrows: add it to ARROWS and to crates/README.md")
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let wanted = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            if allowed.contains_key(wanted) && !ours.contains(&wanted) {
                faults.push(format!("{name} depends on {wanted}"));
            }
            if doors.get(wanted).is_some_and(|who| !who.contains(&name)) {
                faults.push(format!("{name} knows {wanted}"));
            }
        }
    }
    Ok(faults)
}

struct SourceFile {
    path: String,
    text: String,
}

fn rust_files() -> Result<Vec<SourceFile>> {
    let root = process::root();
    let mut paths = Vec::new();
    for folder in ["crates", "tests"] {
        collect(&root.join(folder), &mut paths)?;
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path)?;
        Ok(SourceFile { path: path.strip_prefix(&root)?.to_string_lossy().into_owned(), text })
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read '{}'", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn file_faults(files: &[SourceFile]) -> Vec<String> {
    let mut faults = Vec::new();
    for SourceFile { path, text } in files {
        let lines = text.lines().count();
        if lines > LONGEST && !LONG_FILES.iter().any(|(long, _)| long == path) {
            faults.push(format!("{path} has {lines} lines; more than {LONGEST} need a reason in LONG_FILES"));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{path} does not open with what it is (`//!`)"));
        }
        let switches = text.contains("cfg(target_arch") || text.contains("cfg!(target_arch");
        if switches && !PLATFORM_SWITCHES.iter().any(|place| path.starts_with(place)) {
            faults.push(format!("{path} switches on the platform; only hosts and kernels may"));
        }
    }
    faults
}

fn sorted_sizes(files: &[SourceFile]) -> Vec<usize> {
    let mut sizes: Vec<usize> = files.iter().map(|file| file.text.lines().count()).collect();
    sizes.sort_unstable();
    sizes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]})
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_a_fault() {
        assert_eq!(
            arrow_faults(&package("reprise-kv", "reprise-model", None)).unwrap(),
            ["reprise-kv depends on reprise-model"]
        );
        assert!(arrow_faults(&package("reprise-kv", "reprise-model", Some("dev"))).unwrap().is_empty());
        assert!(arrow_faults(&package("reprise-model", "reprise-compute", None)).unwrap().is_empty());
        assert_eq!(
            arrow_faults(&package("reprise-engine", "axum", None)).unwrap(),
            ["reprise-engine knows axum"]
        );
        assert!(arrow_faults(&package("reprise-stranger", "x", None)).is_err());
    }

    #[test]
    fn files_are_held_to_size_head_and_place() {
        let file = |path: &str, text: String| SourceFile { path: path.into(), text };
        let files = [
            file("crates/kv/src/a.rs", format!("//! A.\n{}", "x\n".repeat(LONGEST))),
            file("crates/kv/src/b.rs", "use x;\n".into()),
            file("crates/kv/src/c.rs", "//! C.\n#[cfg(target_arch = \"wasm32\")]\n".into()),
            file("crates/compute/src/kernels/d.rs", "//! D.\n#[cfg(target_arch = \"x86_64\")]\n".into()),
        ];
        let faults = file_faults(&files);
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
