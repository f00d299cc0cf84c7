//! Running other programs, with errors that say which command failed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    // CARGO_MANIFEST_DIR is crates/xtask; the root is two folders up.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Runs a command in the workspace's root, its output going to ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    command.current_dir(root());
    eprintln!("> {}", text(command));
    let status =
        command.status().with_context(|| format!("cannot run `{}`; is it installed?", text(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", text(command));
    }
    Ok(())
}

/// Runs a command whose output goes to ours, and gives it as well.
pub(crate) fn tee(command: &mut Command) -> Result<String> {
    command.current_dir(root()).stdout(Stdio::piped());
    eprintln!("> {}", text(command));
    let mut child =
        command.spawn().with_context(|| format!("cannot run `{}`; is it installed?", text(command)))?;
    let mut all = String::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        all.push_str(&line);
        all.push('\n');
    }
    let status = child.wait()?;
    ensure!(status.success(), "`{}` failed: {status}", text(command));
    Ok(all)
}

/// Runs a command and gives what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    Ok(outputs(command)?.0)
}

/// As [`output`], with what it prints to standard error behind that.
pub(crate) fn output_of_both(command: &mut Command) -> Result<String> {
    let (output, errors) = outputs(command)?;
    Ok(output + &errors)
}

fn outputs(command: &mut Command) -> Result<(String, String)> {
    command.current_dir(root());
    let output =
        command.output().with_context(|| format!("cannot run `{}`; is it installed?", text(command)))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("`{}` failed: {}\n{errors}", text(command), output.status);
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), errors))
}

/// `cargo` with arguments.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

/// Builds the server as users run it; its binary.
pub(crate) fn release_server() -> Result<PathBuf> {
    run(&mut cargo(["build", "--release", "--locked", "-p", "reprise-server"]))?;
    Ok(root().join("target/release/reprise-server"))
}

/// Builds an example of a crate as it is measured; its binary.
pub(crate) fn release_example(package: &str, example: &str) -> Result<PathBuf> {
    run(&mut cargo(["build", "--release", "--locked", "-p", package, "--example", example]))?;
    Ok(root().join("target/release/examples").join(example))
}

fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
