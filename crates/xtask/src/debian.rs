//! Rust for targets other than this machine's out of Debian's packages, for machines that reach only those and the crate
//! registry: Debian's compiler, with a standard library built here once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::npm;
use crate::process::{self, cargo};

/// The toolchain's name in rustup.
pub(crate) const TOOLCHAIN: &str = "debian";
/// Debian's Rust.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Whether targets come from Debian's packages: `WASM_TOOLCHAIN=debian` instead of `rustup`, the default.
pub(crate) fn chosen() -> Result<bool> {
    match std::env::var("WASM_TOOLCHAIN").as_deref() {
        Ok("debian") => Ok(true),
        Ok("rustup") | Err(_) => Ok(false),
        Ok(other) => bail!("WASM_TOOLCHAIN is '{other}'; it may be 'rustup' or 'debian'"),
    }
}

/// Provides [`TOOLCHAIN`] for a target, and the packages that are needed with it.
pub(crate) fn target(target: &str, packages: &[&str]) -> Result<()> {
    let packages = [&PACKAGES, packages].concat();
    if process::output(Command::new("dpkg").arg("-s").args(&packages)).is_err() {
        npm::apt(&packages)?;
    }
    let toolchains = process::output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !toolchains.lines().any(|line| line.split_whitespace().next() == Some(TOOLCHAIN)) {
        process::run(Command::new("rustup").args(["toolchain", "link", TOOLCHAIN, "/usr"]))?;
    }
    let sysroot = process::output(Command::new("rustc").args(["+debian", "--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib");
    let version = process::output(Command::new("rustc").args(["+debian", "--version"]))?;
    let stamp = library.join(".reprise-built-with");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&version) {
        build_std(target, &library)?;
        fs::write(&stamp, version)?;
    }
    Ok(())
}

/// Builds the standard library in a throw-away crate and keeps its archives.
fn build_std(target: &str, library: &Path) -> Result<()> {
    let stub = tempfile::tempdir()?;
    fs::create_dir(stub.path().join("src"))?;
    fs::write(stub.path().join("src/lib.rs"), "")?;
    fs::write(
        stub.path().join("Cargo.toml"),
        "[package]\nname = \"stub\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    let built = stub.path().join("target");
    process::run(
        cargo([
            "+debian",
            "build",
            "--release",
            "--target",
            target,
            "-Zbuild-std=std,panic_abort,proc_macro,test",
        ])
        .arg("--manifest-path")
        .arg(stub.path().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &built)
        // Only for this build: the project itself stays on stable features.
        .env("RUSTC_BOOTSTRAP", "1")
        // Bitcode lets what links with it use link-time optimisation.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes"),
    )?;
    fs::create_dir_all(library)?;
    for old in archives(library)? {
        fs::remove_file(old)?;
    }
    for archive in archives(&built.join(target).join("release/deps"))? {
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
