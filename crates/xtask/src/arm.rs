//! The NEON kernels' tests, on an emulated ARM processor where this machine has none.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::{debian, npm};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross compiler has the target's C library, which the emulated program loads.
const C_LIBRARY: &str = "/usr/aarch64-linux-gnu";
/// What links for ARM and what runs it.
const DEBIAN_PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"];

/// How the NEON kernels can be tested here.
pub(crate) enum Neon {
    /// They are this machine's own, and every test run has them.
    Native,
    /// By cargo with this toolchain; empty for the usual one.
    Emulated(String),
    /// Not at all, for want of this.
    Missing(String),
}

/// Finds a way; on machines that take their targets from Debian's packages, by installing what it needs.
pub(crate) fn neon() -> Result<Neon> {
    if cfg!(target_arch = "aarch64") {
        return Ok(Neon::Native);
    }
    if debian::chosen()? {
        debian::target(TARGET, &DEBIAN_PACKAGES)?;
        return Ok(Neon::Emulated(format!("+{}", debian::TOOLCHAIN)));
    }
    let missing = missing()?;
    Ok(if missing.is_empty() { Neon::Emulated(String::new()) } else { Neon::Missing(missing.join(", ")) })
}

/// The tests of `compute`, each instruction set's op suite among them.
pub(crate) fn tests(toolchain: &str) -> Command {
    let mut tests = cargo_for_arm(toolchain, "test");
    // The reference against itself is slow work for an emulator, and no kernel is in it.
    tests.args(["--lib", "--", "--nocapture", "--skip", "suite::tests"]);
    tests
}

/// Lints what only ARM compiles.
pub(crate) fn clippy(toolchain: &str) -> Result<()> {
    let packages = ["rust-web-clippy"];
    if debian::chosen()? && process::output(Command::new("dpkg").arg("-s").args(packages)).is_err() {
        npm::apt(&packages)?;
    }
    process::run(cargo_for_arm(toolchain, "clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

fn cargo_for_arm(toolchain: &str, subcommand: &str) -> Command {
    let mut command = cargo([toolchain, subcommand].into_iter().filter(|word| !word.is_empty()));
    let variable = |name: &str| format!("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_{name}");
    command
        .args(["--locked", "--profile", "emulated-test", "--target", TARGET, "-p", "reprise-compute"])
        .env(variable("LINKER"), LINKER)
        .env(variable("RUNNER"), format!("{EMULATOR} -L {C_LIBRARY}"))
        // Two compilers must not share fingerprints.
        .env("CARGO_TARGET_DIR", process::root().join("target/arm"));
    command
}

/// What a developer's machine lacks; nothing is installed there unasked.
fn missing() -> Result<Vec<&'static str>> {
    let library =
        process::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    let there = [
        (Path::new(library.trim()).exists(), "`rustup target add aarch64-unknown-linux-gnu`"),
        (npm::on_path(LINKER).is_some(), LINKER),
        (npm::on_path(EMULATOR).is_some(), EMULATOR),
        (Path::new(C_LIBRARY).exists(), C_LIBRARY),
    ];
    Ok(there.into_iter().filter_map(|(there, what)| (!there).then_some(what)).collect())
}
