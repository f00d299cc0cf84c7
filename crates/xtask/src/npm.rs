//! The JavaScript side: packages, builds and tests of `web`, `www` and the browser suites.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::modules::{self, Purpose};
use crate::process;

/// The project's npm packages.
pub(crate) const FOLDERS: [&str; 3] = ["web", "www", "tests/bridge"];

/// `npm <arguments>` in a folder of the project.
pub(crate) fn npm(folder: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.arg("--prefix").arg(process::root().join(folder)).args(arguments);
    command
}

/// Installs what a folder's lock file names, unless it is there already.
pub(crate) fn install(folder: &str) -> Result<()> {
    let folder_path = process::root().join(folder);
    let lock = fs::read_to_string(folder_path.join("package-lock.json"))
        .with_context(|| format!("{folder} has no package-lock.json"))?;
    let stamp = folder_path.join("node_modules/.installed-from");
    if fs::read_to_string(&stamp).ok().as_deref() == Some(&lock) {
        return Ok(());
    }
    // Packages with install scripts fetch binaries from elsewhere; none that is used here needs one.
    process::run(&mut npm(folder, &["ci", "--no-audit", "--no-fund", "--ignore-scripts"]))?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write '{}'", stamp.display()))
}

/// A command of a folder's packages.
pub(crate) fn tool(folder: &str, name: &str) -> Result<PathBuf> {
    install(folder)?;
    let tool = process::root().join(folder).join("node_modules/.bin").join(name);
    ensure!(tool.exists(), "{folder}'s packages have no `{name}`");
    Ok(tool)
}

/// Builds the wasm modules, the package around them, and the page.
pub(crate) fn everything(purpose: Purpose) -> Result<()> {
    modules::build(purpose)?;
    for folder in ["web", "www"] {
        install(folder)?;
        process::run(&mut npm(folder, &["run", "build"]))?;
    }
    Ok(())
}

/// Chromium: `CHROMIUM`, or what is installed, or what the system's packages have.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        ensure!(Path::new(&path).exists(), "CHROMIUM names no file");
        return Ok(path.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    if let Some(found) = names.iter().find_map(|name| on_path(name)) {
        return Ok(found);
    }
    apt(&["chromium"])?;
    on_path("chromium").context("no Chromium: install one, or name it in CHROMIUM")
}

/// A Vulkan driver that needs no GPU, where the system has none at all.
pub(crate) fn software_vulkan() -> Result<()> {
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let any = drivers.iter().any(|folder| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()));
    if any { Ok(()) } else { apt(&["mesa-vulkan-drivers"]) }
}

/// Installs packages of the system.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    process::run(Command::new("apt-get").args(["update", "-qq"]))?;
    process::run(
        Command::new("apt-get").args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages),
    )
}

/// Where a program is, if it is installed.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
