//! The wasm32 target, from rustup or from Debian's packages.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{self, cargo};
use crate::{debian, npm};

/// The target's name.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// What links wasm with Debian's Rust.
const DEBIAN_LINKER: [&str; 2] = ["rust-web-llvm", "lld-22"];

/// Provides the target and gives the toolchain to use.
///
/// `WASM_TOOLCHAIN=rustup` (the default) takes it from rustup, `WASM_TOOLCHAIN=debian` from [`debian`].
pub(crate) fn toolchain() -> Result<String> {
    if !debian::chosen()? {
        return rustup();
    }
    debian::target(TARGET, &DEBIAN_LINKER)?;
    Ok(debian::TOOLCHAIN.to_owned())
}

fn rustup() -> Result<String> {
    let active = process::output(Command::new("rustup").args(["show", "active-toolchain"]))?;
    let toolchain = active.split_whitespace().next().context("rustup names no active toolchain")?.to_owned();
    process::run(Command::new("rustup").args(["target", "add", TARGET, "--toolchain", &toolchain]))?;
    Ok(toolchain)
}

/// Lints what only the browser compiles.
pub(crate) fn clippy() -> Result<()> {
    let toolchain = toolchain()?;
    if toolchain == debian::TOOLCHAIN
        && process::output(Command::new("dpkg").args(["-s", "rust-web-clippy"])).is_err()
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
    if toolchain == debian::TOOLCHAIN {
        return Ok(());
    }
    process::run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", toolchain]))
}
