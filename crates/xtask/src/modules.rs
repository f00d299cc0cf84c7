//! The browser's engine: two wasm modules from one source, with the JavaScript that binds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::process::{self, cargo};
use crate::{npm, setup, wasm};

/// A way to compile the engine; a module either validates in an engine or does not, so each is a build of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// 128-bit vectors, which every browser with WebAssembly 2 has.
    Simd,
    /// Relaxed vectors and shared memory besides.
    Threads,
    /// `Simd` with the op suite exported, for the tests.
    Suite,
}

/// What the linker must leave in the module for wasm-bindgen to start threads.
const THREAD_SYMBOLS: [&str; 6] =
    ["__heap_base", "__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__stack_pointer"];

/// Features that wasm-opt must accept; those of the `Threads` module include the others'.
const WASM_OPT: [&str; 12] = [
    "-O3",
    "--enable-simd",
    "--enable-relaxed-simd",
    "--enable-threads",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
    "--enable-call-indirect-overlong",
];

impl Module {
    fn name(self) -> &'static str {
        if self == Self::Threads { "threads" } else { "simd" }
    }

    /// Objects with and without atomics must not meet.
    fn target_folder(self) -> PathBuf {
        process::root().join(if self == Self::Threads { "target/wasm-threads" } else { "target/wasm" })
    }

    fn rustflags(self) -> String {
        if self != Self::Threads {
            return "-Ctarget-feature=+simd128".to_owned();
        }
        let mut flags = "-Ctarget-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals \
                         -Clink-arg=--shared-memory -Clink-arg=--import-memory -Clink-arg=--max-memory=4294967296"
            .to_owned();
        for symbol in THREAD_SYMBOLS {
            flags.push_str(&format!(" -Clink-arg=--export-if-defined={symbol}"));
        }
        flags
    }

    /// Where the package's build expects a module, and the tests theirs.
    fn folder(self) -> PathBuf {
        let parent = if self == Self::Suite { suite_folder() } else { process::root().join("web/dist/wasm") };
        parent.join(self.name())
    }
}

/// Where the modules with the op suite are put, by name.
pub(crate) fn suite_folder() -> PathBuf {
    process::root().join("target/wasm/suite")
}

/// Whether wasm-opt goes over a module: a quarter smaller, for minutes of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Optimise {
    Yes,
    No,
}

/// Builds what the package ships.
pub(crate) fn build(optimise: Optimise) -> Result<()> {
    for module in [Module::Simd, Module::Threads] {
        build_module(module, optimise)?;
    }
    Ok(())
}

/// Compiles, binds and optimises one module; the last two only if the first gave something new.
pub(crate) fn build_module(module: Module, optimise: Optimise) -> Result<()> {
    let toolchain = wasm::toolchain()?;
    let bindgen = setup::wasm_bindgen()?;
    let mut build = cargo([
        &format!("+{toolchain}"),
        "build",
        "--locked",
        "--profile",
        "wasm",
        "--target",
        wasm::TARGET,
        "-p",
        "reprise-wasm",
    ]);
    if module == Module::Suite {
        build.args(["--features", "suite"]);
    }
    if module == Module::Threads {
        wasm::std_source(&toolchain)?;
        // A standard library with atomics comes with no toolchain; building one is still an unstable flag.
        build.args(["-Zbuild-std=std,panic_abort"]).env("RUSTC_BOOTSTRAP", "1");
    }
    build.env("CARGO_TARGET_DIR", module.target_folder()).env("RUSTFLAGS", module.rustflags());
    process::run(&mut build)?;

    let compiled = module.target_folder().join(wasm::TARGET).join("wasm/reprise_wasm.wasm");
    let folder = module.folder();
    let stamp = folder.join(".built-from");
    let digest = digest(&compiled)?;
    let (plain, optimised) = (digest.clone(), format!("{digest} optimised"));
    let bound = folder.join("reprise_bg.wasm");
    let found = fs::read_to_string(&stamp).unwrap_or_default();
    if bound.exists() && (found == optimised || (found == plain && optimise == Optimise::No)) {
        return Ok(());
    }
    process::run(
        Command::new(bindgen)
            .args(["--target", "web", "--out-name", "reprise", "--out-dir"])
            .arg(&folder)
            .arg(&compiled),
    )?;
    if optimise == Optimise::Yes {
        let optimiser = npm::tool("web", "wasm-opt")?;
        let smaller = folder.join("optimised.wasm");
        process::run(Command::new(optimiser).args(WASM_OPT).arg("-o").arg(&smaller).arg(&bound))?;
        fs::rename(&smaller, &bound)?;
    }
    fs::write(&stamp, if optimise == Optimise::Yes { optimised } else { plain })?;
    println!("{}: {} KB", bound.display(), fs::metadata(&bound)?.len() / 1000);
    Ok(())
}

/// The version of wasm-bindgen that the workspace is locked to: the binding tool must be of the same.
pub(crate) fn bindgen_version() -> Result<String> {
    let json = process::output(&mut cargo(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&json).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let version = packages.iter().find(|package| package["name"] == "wasm-bindgen");
    let version = version.and_then(|package| package["version"].as_str());
    Ok(version.context("the workspace does not depend on wasm-bindgen")?.to_owned())
}

fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read '{}'", file.display()))?;
    ensure!(!bytes.is_empty(), "'{}' is empty", file.display());
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
