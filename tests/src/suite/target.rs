//! Who answers a scenario, and which scenarios it is known to fail.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `reprise-server`.
    Native,
    /// The engine in Chromium, on the GPU's kernels.
    BrowserWebGpu,
    /// The engine in Chromium, on the processor.
    BrowserWasm,
    /// The llama-server that `LLAMA_SERVER` names: the oracle.
    LlamaServer,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 4] = [Self::Native, Self::BrowserWebGpu, Self::BrowserWasm, Self::LlamaServer];

    /// As `--target` and `known_failure` call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::BrowserWebGpu => "browser-webgpu",
            Self::BrowserWasm => "browser-wasm",
            Self::LlamaServer => "llama-server",
        }
    }

    /// Whether it is one of our hosts.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self != Self::LlamaServer
    }

    /// The backend of a browser's engine; none for servers.
    pub(super) const fn browser_backend(self) -> Option<&'static str> {
        match self {
            Self::BrowserWebGpu => Some("webgpu"),
            Self::BrowserWasm => Some("wasm"),
            Self::Native | Self::LlamaServer => None,
        }
    }

    /// The server's binary: `REPRISE_SERVER`, or what stands beside this program; `LLAMA_SERVER`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn binary(self) -> Result<PathBuf> {
        match self {
            Self::LlamaServer => Ok(std::env::var_os("LLAMA_SERVER")
                .context("LLAMA_SERVER must name a llama-server binary")?
                .into()),
            _ => match std::env::var_os("REPRISE_SERVER") {
                Some(path) => Ok(path.into()),
                None => Ok(std::env::current_exe()?.with_file_name("reprise-server")),
            },
        }
    }
}

/// Why a scenario does not pass: on all of our hosts, or on each of some.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum KnownFailure {
    /// On every host.
    Everywhere(String),
    /// By target; `browser` stands for both of a browser's.
    On(BTreeMap<String, String>),
}

impl KnownFailure {
    /// Why `target` fails it; none if it should pass there.
    #[must_use]
    pub fn reason(&self, target: Target) -> Option<&str> {
        match self {
            _ if !target.is_ours() => None,
            Self::Everywhere(reason) => Some(reason),
            Self::On(reasons) => {
                let browser = || target.browser_backend().and_then(|_| reasons.get(BROWSER));
                reasons.get(target.name()).or_else(browser).map(String::as_str)
            }
        }
    }

    /// # Errors
    /// When it names what is no target.
    pub(super) fn validate(&self) -> Result<()> {
        let Self::On(reasons) = self else { return Ok(()) };
        let known =
            |name: &str| name == BROWSER || Target::ALL.iter().any(|t| t.is_ours() && t.name() == name);
        for name in reasons.keys() {
            ensure!(known(name), "known_failure: '{name}' is not one of our targets");
        }
        Ok(())
    }
}

const BROWSER: &str = "browser";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_holds_where_it_is_named() {
        let everywhere: KnownFailure = serde_json::from_str(r#""x""#).unwrap();
        assert_eq!(everywhere.reason(Target::Native), Some("x"));
        assert_eq!(everywhere.reason(Target::LlamaServer), None);

        let some: KnownFailure =
            serde_json::from_str(r#"{"browser": "both", "browser-wasm": "one"}"#).unwrap();
        assert_eq!(some.reason(Target::Native), None);
        assert_eq!(some.reason(Target::BrowserWebGpu), Some("both"));
        assert_eq!(some.reason(Target::BrowserWasm), Some("one"));
        assert!(some.validate().is_ok());

        for wrong in [r#"{"llama-server": "x"}"#, r#"{"firefox": "x"}"#] {
            assert!(serde_json::from_str::<KnownFailure>(wrong).unwrap().validate().is_err());
        }
    }
}
