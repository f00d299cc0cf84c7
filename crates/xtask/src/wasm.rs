//! The wasm32 target, from rustup or from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::npm;
use crate::process::{self, cargo};

/// The target's name.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's Rust and what links wasm with it.
const DEBIAN_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22"];

/// Provides the target and gives the toolchain to use.
///
/// `WASM_TOOLCHAIN=rustup` (the default) takes it from rustup; `WASM_TOOLCHAIN=debian` is for machines that reach only
/// Debian's packages and the crate registry: Debian's compiler, with a standard library built here once.
pub(crate) fn toolchain() -> Result<String> {
    match std::env::var("WASM_TOOLCHAIN").as_deref() {
        Ok("debian") => debian(),
        Ok("rustup") | Err(_) => rustup(),
        Ok(other) => bail!("WASM_TOOLCHAIN is '{other}'; it may be 'rustup' or 'debian'"),
    }
}

fn rustup() -> Result<String> {
    let active = process::output(Command::new("rustup").args(["show", "active-toolchain"]))?;
    let toolchain = active.split_whitespace().next().context("rustup names no active toolchain")?.to_owned();
    process::run(Command::new("rustup").args(["target", "add", TARGET, "--toolchain", &toolchain]))?;
    Ok(toolchain)
}

fn debian() -> Result<String> {
    if process::output(Command::new("dpkg").arg("-s").args(DEBIAN_PACKAGES)).is_err() {
        process::run(Command::new("apt-get").args(["update", "-qq"]))?;
        process::run(
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(DEBIAN_PACKAGES),
        )?;
    }
    let toolchains = process::output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !toolchains.lines().any(|line| line.split_whitespace().next() == Some("debian")) {
        process::run(Command::new("rustup").args(["toolchain", "link", "debian", "/usr"]))?;
    }
    let sysroot = process::output(Command::new("rustc").args(["+debian", "--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let version = process::output(Command::new("rustc").args(["+debian", "--version"]))?;
    let stamp = library.join(".reprise-built-with");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&version) {
        build_std(&library)?;
        fs::write(&stamp, version)?;
    }
    Ok("debian".to_owned())
}

/// Lints what only the browser compiles.
pub(crate) fn clippy() -> Result<()> {
    let toolchain = toolchain()?;
    if toolchain == "debian" && process::output(Command::new("dpkg").args(["-s", "rust-web-clippy"])).is_err()
    {
        npm::apt(&["rust-web-clippy"])?;
    }
    process::run(
        cargo([&format!("+{toolchain}"), "clippy", "--locked", "--target", TARGET, "-p", "reprise-wasm"])
            .args(["--features", "suite", "--", "-D", "warnings"])
            // The kernels stand behind it.
            .env("RUSTFLAGS", "-Ctarget-feature=+simd128")
            // Two compilers must not share fingerprints.
            .env("CARGO_TARGET_DIR", process::root().join("target/wasm")),
    )
}

/// The standard library's source, from which one with atomics is built. Debian's packages have it.
pub(crate) fn std_source(toolchain: &str) -> Result<()> {
    if toolchain == "debian" {
        return Ok(());
    }
    process::run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", toolchain]))
}

/// Builds the standard library in a throw-away crate and keeps its archives.
fn build_std(library: &Path) -> Result<()> {
    let stub = tempfile::tempdir()?;
    fs::create_dir(stub.path().join("src"))?;
    fs::write(stub.path().join("src/lib.rs"), "")?;
    fs::write(
        stub.path().join("Cargo.toml"),
        "[package]\nname = \"stub\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    let target = stub.path().join("target");
    process::run(
        cargo([
            "+debian",
            "build",
            "--release",
            "--target",
            TARGET,
            "-Zbuild-std=std,panic_abort,proc_macro,test",
        ])
        .arg("--manifest-path")
        .arg(stub.path().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        // Only for this build: the project itself stays on stable features.
        .env("RUSTC_BOOTSTRAP", "1")
        // Bitcode lets what links with it use link-time optimisation.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes"),
    )?;
    fs::create_dir_all(library)?;
    for old in archives(library)? {
        fs::remove_file(old)?;
    }
    for archive in archives(&target.join(TARGET).join("release/deps"))? {
        let name = archive.file_name().context("an archive without a name")?;
        if !name.to_string_lossy().starts_with("libstub-") {
            fs::copy(&archive, library.join(name))?;
        }
    }
    Ok(())
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read '{}'", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rlib"))
        .collect())
}
