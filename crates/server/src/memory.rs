//! Refuses what cannot fit, with the numbers, before anything is loaded.

use anyhow::{Result, bail};
use reprise_model::MemoryNeed;

/// Bytes that this machine could still give to a process, or `None` where the system does not say.
#[must_use]
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Checks that a model and its slots' KV fit.
///
/// Mapped weights can be dropped and read again, but a model that is larger than the memory answers at the disk's speed:
/// weights count in full.
///
/// # Errors
/// When they do not; the text has the numbers and what to change.
pub(crate) fn check(need: &MemoryNeed, available: Option<u64>) -> Result<()> {
    let Some(available) = available else { return Ok(()) };
    let total = need.weights.saturating_add(need.kv).saturating_add(need.activations);
    if total > available {
        bail!(
            "not enough memory: the model needs {} for weights, {} for the KV cache of its slots and {} to compute, {} in \
             all, but {} are available. Take a smaller model or quantisation, a smaller --ctx-size or --parallel, or \
             start with --no-memory-check",
            mib(need.weights),
            mib(need.kv),
            mib(need.activations),
            mib(total),
            mib(available)
        );
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_the_numbers() {
        let need = MemoryNeed { weights: 100 << 20, kv: 50 << 20, activations: 1 << 20 };
        assert!(check(&need, Some(151 << 20)).is_ok());
        assert!(check(&need, None).is_ok());
        let text = check(&need, Some(150 << 20)).unwrap_err().to_string();
        assert!(
            text.contains("100 MiB") && text.contains("151 MiB in all") && text.contains("150 MiB are"),
            "{text}"
        );
    }
}
