//! The browser's engine: two wasm modules from one source, with the JavaScript that binds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::process::{self, cargo};
use crate::{npm, wasm};

/// A way to compile the engine; a module either validates in an engine or does not, so each is a build of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// 128-bit vectors, which every browser with WebAssembly 2 has.
    Simd,
    /// Relaxed vectors and shared memory besides.
    Threads,
}

/// What a module is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compiled in half the time, slower but for its kernels, and with the op suite exported.
    Tests,
    /// What the package ships: small, and gone over by wasm-opt.
    Shipping,
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

    /// Where the package's build expects a module.
    fn folder(self) -> PathBuf {
        process::root().join("web/dist/wasm").join(self.name())
    }
}

impl Purpose {
    fn profile(self) -> &'static str {
        match self {
            Self::Tests => "wasm-test",
            Self::Shipping => "wasm",
        }
    }
}

/// Builds every module.
pub(crate) fn build(purpose: Purpose) -> Result<()> {
    for module in [Module::Simd, Module::Threads] {
        build_module(module, purpose)?;
    }
    Ok(())
}

/// Compiles, binds and optimises one module; the last two only if the first gave something new.
fn build_module(module: Module, purpose: Purpose) -> Result<()> {
    let toolchain = wasm::toolchain()?;
    let mut build = cargo([
        &format!("+{toolchain}"),
        "build",
        "--locked",
        "--profile",
        purpose.profile(),
        "--target",
        wasm::TARGET,
        "-p",
        "reprise-wasm",
    ]);
    if purpose == Purpose::Tests {
        build.args(["--features", "suite"]);
    }
    if module == Module::Threads {
        wasm::std_source(&toolchain)?;
        // A standard library with atomics comes with no toolchain; building one is still an unstable flag.
        build.args(["-Zbuild-std=std,panic_abort"]).env("RUSTC_BOOTSTRAP", "1");
    }
    build.env("CARGO_TARGET_DIR", module.target_folder()).env("RUSTFLAGS", module.rustflags());
    process::run(&mut build)?;

    let compiled =
        module.target_folder().join(wasm::TARGET).join(purpose.profile()).join("reprise_wasm.wasm");
    let folder = module.folder();
    let stamp = folder.join(".built-from");
    let digest = digest(&compiled)?;
    let bound = folder.join("reprise_bg.wasm");
    if bound.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == digest) {
        return Ok(());
    }
    Bindgen::new().input_path(&compiled).out_name("reprise").web(true)?.typescript(true).generate(&folder)?;
    if purpose == Purpose::Shipping {
        let optimiser = npm::tool("web", "wasm-opt")?;
        let smaller = folder.join("optimised.wasm");
        process::run(Command::new(optimiser).args(WASM_OPT).arg("-o").arg(&smaller).arg(&bound))?;
        fs::rename(&smaller, &bound)?;
    }
    fs::write(&stamp, digest)?;
    println!("{}: {} KB", bound.display(), fs::metadata(&bound)?.len() / 1000);
    Ok(())
}

fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read '{}'", file.display()))?;
    ensure!(!bytes.is_empty(), "'{}' is empty", file.display());
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
